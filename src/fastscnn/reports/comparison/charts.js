"use strict";
// Curves and bars of the runs that are switched on. A curve is drawn with as many points as can be seen: the lowest and
// the highest of each stretch, so that no peak is lost; zooming in draws the stretch anew from all of its points.

const POINTS = 16000; // in one chart, over all runs
const MOST_BARS = 12; // groups in the bar chart
const expand = (series) =>
  Array.isArray(series) ? series : Array.from({ length: series.count }, (_, i) => series.first + i * series.step);
for (const run of data.runs) {
  run.x = { steps: expand(run.steps), epochs: expand(run.epochs) };
  run.y = run.values.map((value) => value / 100);
}
const withCurve = data.runs.flatMap((run, place) => (run.y.length ? [place] : []));
const titles = { steps: "iterations", epochs: "epochs" };

function thinned(xs, ys, range, most) {
  let from = 0, to = xs.length;
  if (range) {
    from = Math.max(0, xs.findIndex((x) => x >= range[0]) - 1);
    const after = xs.findIndex((x) => x > range[1]);
    if (after >= 0) to = after + 1;
    if (xs[xs.length - 1] < range[0]) return [];
  }
  const count = to - from;
  if (count <= most) return Array.from({ length: count }, (_, i) => from + i);
  const kept = new Set([from, to - 1]);
  const stretches = Math.max(1, Math.floor(most / 2) - 1);
  for (let stretch = 0; stretch < stretches; stretch++) {
    const first = from + Math.floor((stretch * count) / stretches);
    const end = from + Math.floor(((stretch + 1) * count) / stretches);
    let low = first, high = first;
    for (let i = first; i < end; i++) {
      if (ys[i] < ys[low]) low = i;
      if (ys[i] > ys[high]) high = i;
    }
    kept.add(low).add(high);
  }
  return [...kept].sort((a, b) => a - b);
}

function curveTraces(axis, range) {
  const places = withCurve.filter(isOn);
  const most = Math.max(40, Math.floor(POINTS / Math.max(1, places.length)));
  const total = places.reduce((sum, place) => sum + Math.min(most, data.runs[place].y.length), 0);
  const traces = new Map(); // runs that look alike share a trace: a page of 200 runs has at most 30
  for (const place of places) {
    const run = data.runs[place];
    const colour = colourOf.get(run.group);
    const look = run.y.length === 1 ? "markers" : run.dashed ? "dash" : "solid";
    const key = `${colour} ${look}`;
    if (!traces.has(key)) {
      traces.set(key, {
        type: "scatter", x: [], y: [], text: [], hovertemplate: `%{text}<br>%{y:.2f} % at %{x} ${titles[axis]}<extra></extra>`,
        mode: look === "markers" ? look : total < 1500 ? "lines+markers" : "lines", hoverlabel: { namelength: -1 },
        line: { color: colour, width: places.length > 40 ? 1 : 1.6, dash: look === "dash" ? "dash" : "solid" },
        marker: { color: colour, size: look === "markers" ? 7 : 4 },
      });
    }
    const trace = traces.get(key);
    for (const i of thinned(run.x[axis], run.y, range, most)) {
      trace.x.push(run.x[axis][i]);
      trace.y.push(run.y[i]);
      trace.text.push(run.label);
    }
    trace.x.push(null);
    trace.y.push(null);
    trace.text.push("");
  }
  return [...traces.values()];
}

function layout(extra) {
  const style = getComputedStyle(document.documentElement);
  const [text, quiet, line] = ["--text", "--quiet", "--line"].map((name) => style.getPropertyValue(name).trim());
  const axis = { gridcolor: line, linecolor: line, zeroline: false, tickfont: { color: quiet } };
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", showlegend: false, hovermode: "closest",
    font: { family: "system-ui, sans-serif", size: 12, color: text }, margin: { l: 52, r: 12, t: 10, b: 45 },
    uirevision: "keep", ...extra(axis),
  };
}

const config = {
  responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
  toImageButtonOptions: { format: "svg", filename: "fast-scnn" },
};

function drawCurves(axis) {
  const chart = document.getElementById(axis);
  const shown = chart.layout && !chart.layout.xaxis.autorange ? chart.layout.xaxis.range : null;
  return Plotly.react(chart, curveTraces(axis, shown), layout((style) => ({
    xaxis: { ...style, title: { text: titles[axis] }, rangemode: "tozero" },
    yaxis: { ...style, title: { text: `${data.metric}, %` } },
  })), config);
}

const hasBars = (run) => run.counts && Object.keys(run.iou).length > 0;
const runsAt = (place) => data.runs.filter((run) => hasBars(run) && run.data === place).length;
const places = [...new Set(data.runs.filter(hasBars).map((run) => run.data))].sort((a, b) => runsAt(b) - runsAt(a));
let shownPlace = places[0];

function barTraces() {
  const here = data.runs.flatMap((run, place) => (run.data === shownPlace && hasBars(run) ? [place] : []));
  const classes = [...new Set(here.flatMap((place) => Object.keys(data.runs[place].iou)))];
  const on = groups.map((group) => [group, here.filter((place) => isOn(place) && data.runs[place].group === group)]);
  const some = on.filter(([, members]) => members.length);
  const traces = some.slice(0, MOST_BARS).map(([group, members]) => {
    const values = classes.map((name) => members.map((place) => data.runs[place].iou[name]).filter((v) => v !== undefined));
    const means = values.map((found) => (found.length ? found.reduce((a, b) => a + b, 0) / found.length : null));
    const error = { type: "data", symmetric: false, thickness: 1, width: 2, visible: members.length > 1 };
    error.array = values.map((found, i) => (found.length ? Math.max(...found) - means[i] : 0));
    error.arrayminus = values.map((found, i) => (found.length ? means[i] - Math.min(...found) : 0));
    return bar(group, classes, means, colourOf.get(group), error);
  });
  const known = Object.entries(data.paper);
  const comparable = known.length && classes.length && classes.every((name) => name in known[0][1].iou);
  for (const [name, series] of known) {
    if (comparable && series.box.checked) traces.push(bar(name, classes, classes.map((c) => series.iou[c]), series.colour));
  }
  document.getElementById("bars-note").textContent =
    some.length > MOST_BARS ? `The first ${MOST_BARS} of ${some.length} groups that are on: switch some off to see others.` : "";
  return traces;
}

const bar = (name, x, y, color, error) => ({
  type: "bar", name, x, y, marker: { color }, error_y: error, hovertemplate: `${escaped(name)}<br>%{x}: %{y:.2f} %<extra></extra>`,
});
const escaped = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll("%{", "% {");

function drawBars() {
  return Plotly.react("bars", barTraces(), layout((style) => ({
    barmode: "group", bargap: 0.25, margin: { l: 52, r: 12, t: 10, b: 90 }, xaxis: { ...style, type: "category", tickangle: -40 },
    yaxis: { ...style, title: { text: "IoU, %" }, range: [0, 100] },
  })), config);
}

function choosePlaces() {
  if (!places.length) document.getElementById("classes").hidden = true;
  if (places.length < 2) return;
  const select = document.createElement("select");
  select.id = "place";
  select.append(...places.map((place) => new Option(place)));
  select.addEventListener("change", () => { shownPlace = select.value; drawBars(); });
  const label = document.createElement("label");
  label.append("Data ", select);
  document.getElementById("places").append(label);
}

function drawAll() {
  const charts = [drawCurves("steps"), drawCurves("epochs")];
  if (places.length) charts.push(drawBars());
  return Promise.all(charts);
}

if (!withCurve.length) document.getElementById("curves").classList.add("empty");
choosePlaces();
drawAll().then(() => {
  for (const axis of Object.keys(titles)) {
    document.getElementById(axis).on("plotly_relayout", (change) => {
      if (Object.keys(change).some((key) => key.startsWith("xaxis"))) drawCurves(axis);
    });
  }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  requestAnimationFrame(() => setTimeout(() => { document.documentElement.dataset.ready = performance.now().toFixed(0); }));
});
