"use strict";
// Class IoU as bars, and the forest plot of differences.

const SHAPES = ["", "/", "x", "-"]; // on the bars of groups whose colours repeat
const MOST_BARS = 12; // groups in the bar chart
const hasBars = (run) => run.counts && Object.keys(run.iou).length > 0;
const runsAt = (place) => data.runs.filter((run) => hasBars(run) && run.data === place).length;
const places = [...new Set(data.runs.filter(hasBars).map((run) => run.data))].sort((a, b) => runsAt(b) - runsAt(a));
let shownPlace = places.includes(wanted.get("place")) ? wanted.get("place") : places[0];

function barTraces() {
  const here = data.runs.flatMap((run, place) => (run.data === shownPlace && hasBars(run) ? [place] : []));
  const classes = [...new Set(here.flatMap((place) => Object.keys(data.runs[place].iou)))];
  const on = groups.map((group) => [group, here.filter((place) => isOn(place) && data.runs[place].group === group)]);
  const some = on.filter(([, members]) => members.length);
  const bars = some.slice(0, MOST_BARS).map(([group, members]) => {
    const values = classes.map((name) => members.map((place) => data.runs[place].iou[name]).filter((v) => v !== undefined));
    const means = values.map((found) => (found.length ? found.reduce((a, b) => a + b, 0) / found.length : null));
    const error = { type: "data", symmetric: false, thickness: 1, width: 2, visible: members.length > 1 };
    error.array = values.map((found, i) => (found.length ? Math.max(...found) - means[i] : 0));
    error.arrayminus = values.map((found, i) => (found.length ? means[i] - Math.min(...found) : 0));
    return bar(group, classes, means, colourOf(group), error);
  });
  const known = Object.entries(data.paper);
  const comparable = known.length && classes.length && classes.every((name) => name in known[0][1].iou);
  for (const [name, published] of known) {
    if (comparable && published.box.checked) bars.push(bar(name, classes, classes.map((c) => published.iou[c]), published.colour));
  }
  document.getElementById("bars-note").textContent = some.length > MOST_BARS
    ? `The first ${MOST_BARS} of ${some.length} groups that are on: switch some off to see others, or see the table of differences below.`
    : "";
  return bars;
}

const bar = (name, x, y, color, error) => ({
  type: "bar", name, x, y, marker: { color, pattern: { shape: turn(name, COLOURS.length, SHAPES) } }, error_y: error,
  hovertemplate: `${escaped(name)}<br>%{x}: %{y:.2f} %<extra></extra>`,
});

function drawBars() {
  return Plotly.react("bars", barTraces(), layout((style) => ({
    barmode: "group", bargap: 0.25, margin: { l: 52, r: 12, t: 10, b: 90 }, xaxis: { ...style, type: "category", tickangle: -40 },
    yaxis: { ...style, title: { text: "IoU, %" }, range: [0, 100] },
  })), config);
}

function choosePlaces() {
  if (places.length < 2) return;
  const select = document.createElement("select");
  select.id = "place";
  select.append(...places.map((place) => new Option(place)));
  select.value = shownPlace;
  select.addEventListener("change", () => { shownPlace = select.value; writeAddress(); drawBars(); });
  const label = document.createElement("label");
  label.append("Data ", select);
  document.getElementById("places").append(label);
}

const forest = document.getElementById("forest");
const forestRows = [];
for (const gap of data.gaps) {
  if (forestRows.at(-1)?.place !== gap.place) forestRows.push({ place: gap.place, head: `${gap.place}, to ${gap.baseline}` });
  forestRows.push(gap);
}
const forestHeight = () => (data.gaps.length ? 60 + (forest.clientWidth < NARROW ? 40 : 24) * forestRows.length : 0);

// A row for each group, the best on top, below the name of its data and of its baseline.
function drawForest() {
  const narrow = forest.clientWidth < NARROW;
  const rows = forestRows;
  const marks = rows.map((row, i) => ({ ...row, y: -i })).filter((row) => row.mean !== undefined && row.mean !== null);
  const colors = marks.map((row) => colourOf(row.label));
  const style = getComputedStyle(document.documentElement);
  const [text, quiet] = ["--text", "--quiet"].map((name) => style.getPropertyValue(name).trim());
  const short = (label) => (label.length > 40 ? `${label.slice(0, 24)}…${label.slice(-15)}` : label);
  const note = (row, i, extra) => ({ xref: "paper", yref: "y", y: -i, showarrow: false, font: { size: 11, color: text }, ...extra });
  const annotations = rows.flatMap((row, i) => {
    if (row.head) return [note(row, i, { x: 0, xanchor: "left", xshift: narrow ? 0 : -250, text: `<b>${escaped(row.head)}</b>` })];
    const number = row.mean === null ? escaped(row.text.slice(0, narrow ? 44 : 90)) : escaped(row.text);
    if (narrow) {
      return [note(row, i, { x: 0, xanchor: "left", yshift: 11, text: `${escaped(short(row.label))}  ${number}`, font: { size: 10.5, color: row.mean === null ? quiet : text } })];
    }
    const where = row.mean === null ? { x: 0, xanchor: "left" } : { x: 1, xanchor: "left", xshift: 8 };
    return [
      note(row, i, { x: 0, xanchor: "right", xshift: -8, text: escaped(short(row.label)) }),
      note(row, i, { ...where, text: number, font: { size: 11, color: quiet } }),
    ];
  });
  const trace = {
    type: "scatter", mode: "markers", x: marks.map((row) => row.mean), y: marks.map((row) => row.y),
    text: marks.map((row) => `${escaped(row.label)}<br>${escaped(row.text)}`), hovertemplate: "%{text}<extra></extra>",
    marker: { size: 9, color: colors, symbol: marks.map((row) => (row.low === null ? "circle-open" : "circle")) },
    error_x: {
      type: "data", symmetric: false, thickness: 1.5, width: 3, color: quiet,
      array: marks.map((row) => (row.high === null ? 0 : row.high - row.mean)),
      arrayminus: marks.map((row) => (row.low === null ? 0 : row.mean - row.low)),
    },
  };
  forest.style.minHeight = `${forestHeight()}px`;
  forest.setAttribute("aria-label", `Differences in points. ${rows.map((row) => row.head ?? `${row.label}: ${row.text}`).join("; ")}.`);
  return Plotly.react(forest, [trace], layout((axis) => ({
    height: forestHeight(), annotations, margin: narrow ? { l: 8, r: 8, t: 8, b: 40 } : { l: 260, r: 210, t: 8, b: 40 },
    xaxis: { ...axis, zeroline: true, zerolinecolor: quiet, title: { text: "points" }, rangemode: "tozero", side: "bottom" },
    yaxis: { ...axis, visible: false, range: [0.6 - rows.length, 0.8], fixedrange: true },
  })), config);
}
