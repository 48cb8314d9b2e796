"use strict";
// Curves of the runs that are switched on: means over seeds with their range, or single runs, of any logged metric.
// A curve is drawn with as many points as can be seen: the lowest and the highest of each stretch, so that no peak is
// lost; zooming in draws the stretch anew from all of its points.

const POINTS = 16000; // in one chart, over all lines
const EDGE = 150; // points of one edge of a band
const EXACT = 25; // labels that are placed once more when the axes are drawn; more are placed by the axes to expect
const MOST_LABELS = 60; // for which a chart grows
const LABEL = 13; // pixels from one label to the next
const SPOKEN = 20; // lines that are named to those who do not see them
const MARKS = 12; // symbols on one line
const NARROW = 700; // pixels, below which a line's label is its number in the list
const expand = (series) =>
  Array.isArray(series) ? series : Array.from({ length: series.count }, (_, i) => series.first + i * series.step);
for (const run of data.runs) {
  run.x = { steps: expand(run.steps), epochs: expand(run.epochs) };
  run.y = run.values.map((value) => value / 100);
}
const titles = { steps: "iterations", epochs: "epochs" };
const escaped = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll("%{", "% {");
const chart = document.getElementById("curve");
let more = null; // the other metrics, read when one of them is chosen

function series(place, axis, metric) {
  const run = data.runs[place];
  if (metric === data.metric) return { x: run.x[axis], y: run.y };
  more ??= JSON.parse(document.getElementById("more").textContent);
  const found = more[place][metric];
  return found ? { x: found[axis === "epochs" ? 0 : 1], y: found[2] } : { x: [], y: [] };
}

function smoothed(ys, weight) {
  if (!weight) return ys;
  let sum = 0, share = 1;
  return ys.map((y) => {
    sum = weight * sum + (1 - weight) * y;
    share *= weight;
    return sum / (1 - share); // as W&B and TensorBoard do: the first values are not drawn towards 0
  });
}

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

function at(line, x, from) { // linear between two points; from is where the search begins
  let i = from;
  while (i < line.x.length - 1 && line.x[i + 1] <= x) i++;
  if (line.x[i] === x || i === line.x.length - 1) return [line.y[i], i];
  const share = (x - line.x[i]) / (line.x[i + 1] - line.x[i]);
  return [line.y[i] + share * (line.y[i + 1] - line.y[i]), i];
}

// The mean of a group's lines, where all of them have values: that of a changing set of runs would jump.
function meanLine(lines) {
  const start = Math.max(...lines.map((line) => line.x[0]));
  const shortest = lines.reduce((a, b) => (b.x.at(-1) < a.x.at(-1) ? b : a));
  const xs = shortest.x.filter((x) => x >= start);
  const places = lines.map(() => 0);
  const mean = { x: xs, y: [], low: [], high: [] };
  for (const x of xs) {
    const values = lines.map((line, number) => {
      const [value, place] = at(line, x, places[number]);
      places[number] = place;
      return value;
    });
    mean.y.push(values.reduce((a, b) => a + b, 0) / values.length);
    mean.low.push(Math.min(...values));
    mean.high.push(Math.max(...values));
  }
  return mean;
}

const state = () => ({
  metric: control("metric").value, axis: control("axis").value, view: control("view").value,
  logx: control("logx").checked, logy: control("logy").checked, smooth: Number(control("smooth").value),
});

function linesOf(place, now) {
  const { x, y } = series(place, now.axis, now.metric);
  return { x, y: smoothed(y, now.smooth) };
}

// One entry for each line on the chart: its label, colour and points.
function shownLines(now) {
  const places = data.runs.flatMap((_, place) => (isOn(place) && series(place, now.axis, now.metric).y.length ? [place] : []));
  if (now.view === "runs") {
    return places.map((place) => ({ ...linesOf(place, now), group: data.runs[place].group, text: data.runs[place].label, dashed: data.runs[place].dashed }));
  }
  const lines = [];
  for (const group of groups) {
    const members = places.filter((place) => data.runs[place].group === group);
    if (!members.length) continue;
    const counted = members.filter((place) => data.runs[place].counts && data.runs[place].finished);
    const used = counted.length ? counted : members;
    const single = used.map((place) => linesOf(place, now));
    const text = `${escaped(group)}${used.length > 1 ? `, mean of ${used.length}` : ""}`;
    const line = used.length > 1 ? meanLine(single) : single[0];
    if (line.x.length) lines.push({ ...line, group, text, dashed: data.runs[used[0]].dashed });
  }
  return lines;
}

function traces(lines, range, now) {
  const most = Math.max(40, Math.floor(POINTS / Math.max(1, lines.length)));
  const total = lines.reduce((sum, line) => sum + Math.min(most, line.y.length), 0);
  const unit = data.percent.includes(now.metric) ? " %" : "";
  const bands = [], looks = new Map(); // single runs that look alike share a trace: a page of 200 has at most 50
  lines.forEach((line, number) => {
    const color = colourOf(line.group);
    const dash = patternOf(line.group, line.dashed);
    const symbol = symbolOf(line.group);
    const mode = line.y.length === 1 ? "markers" : symbol || total < 1500 ? "lines+markers" : "lines";
    const key = now.view === "runs" ? `${color} ${dash} ${symbol} ${mode === "markers"}` : number;
    if (!looks.has(key)) {
      looks.set(key, {
        type: "scatter", x: [], y: [], text: [], meta: line.group, mode, hoverlabel: { namelength: -1 },
        hovertemplate: `%{text}<br>%{y:.4~g}${unit} at %{x} ${titles[now.axis]}<extra></extra>`,
        line: { color, dash, width: lines.length > 40 ? 1 : 1.8 },
        marker: { color, size: symbol || mode === "markers" ? 7 : 4, symbol: symbol || "circle", maxdisplayed: symbol ? MARKS : 0 },
      });
    }
    const trace = looks.get(key);
    const kept = thinned(line.x, line.y, range, most);
    for (const i of kept) {
      trace.x.push(line.x[i]);
      trace.y.push(line.y[i]);
      trace.text.push(line.text);
    }
    if (now.view === "runs") {
      trace.x.push(null);
      trace.y.push(null);
      trace.text.push("");
    }
    if (line.low) {
      const every = Math.ceil(kept.length / EDGE);
      const edge = kept.filter((_, i) => i % every === 0 || i === kept.length - 1);
      const back = edge.toReversed();
      bands.push({
        type: "scatter", mode: "lines", line: { width: 0 }, hoverinfo: "skip", meta: line.group, text: [], fill: "toself", fillcolor: `${color}2b`,
        x: [...edge, ...back].map((i) => line.x[i]), y: [...edge.map((i) => line.high[i]), ...back.map((i) => line.low[i])],
      });
    }
  });
  return [...bands, ...looks.values()];
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

const config = { responsive: true, displaylogo: false, displayModeBar: false };

const isNarrow = () => chart.clientWidth < NARROW;
const labelOf = (line) => {
  const text = isNarrow() ? String(numberOf.get(line.group)) : line.group;
  return text.length > 34 ? `${text.slice(0, 20)}…${text.slice(-13)}` : text;
};

// A label at the end of each line, moved apart where they would overlap.
function endLabels(lines, { xaxis, yaxis }) {
  const scale = (axis, value) => (axis.type === "log" ? Math.log10(value) : value);
  const part = (axis, value) => (scale(axis, value) - axis.range[0]) / (axis.range[1] - axis.range[0]);
  const ends = new Map();
  for (const line of lines) {
    let last = line.x.length - 1;
    while (last > 0 && part(xaxis, line.x[last]) > 1) last--;
    const y = part(yaxis, line.y[last]);
    if (Number.isFinite(y) && y >= -0.02 && y <= 1.02 && !ends.has(line.group)) ends.set(line.group, { line, y });
  }
  const placed = [...ends.values()].sort((a, b) => a.y - b.y);
  const gap = Math.min(LABEL / Math.max(60, yaxis._length), 1 / Math.max(1, placed.length - 1));
  for (let i = 1; i < placed.length; i++) placed[i].y = Math.max(placed[i].y, placed[i - 1].y + gap);
  const over = placed.length ? placed.at(-1).y - 1 : 0;
  if (over > 0) {
    placed.at(-1).y -= over;
    for (let i = placed.length - 2; i >= 0; i--) placed[i].y = Math.min(placed[i].y, placed[i + 1].y - gap);
  }
  return placed.map(({ line, y }) => ({
    xref: "paper", yref: "paper", x: 1, xanchor: "left", y, yanchor: "middle", showarrow: false, xshift: 4, name: line.group,
    text: escaped(labelOf(line)), font: { size: 11, color: textColourOf(line.group) },
  }));
}

// The axes as they will be where nobody has zoomed.
function expectedAxes(lines, now) {
  const scale = (log) => (value) => (log ? Math.log10(value) : value);
  const span = (values, log, padded) => {
    const known = values.map(scale(log)).filter(Number.isFinite);
    const low = Math.min(...known), high = Math.max(...known), pad = padded ? 0.055 * (high - low || 1) : 0;
    return { type: log ? "log" : "linear", range: [low - pad, high + pad], _length: chart.clientHeight - 63 };
  };
  const ys = lines.flatMap((line) => [line.low ?? line.y, line.high ?? line.y].flatMap((v) => [v.reduce((a, b) => Math.min(a, b)), v.reduce((a, b) => Math.max(a, b))]));
  return { xaxis: span(lines.flatMap((line) => [line.x[0], line.x.at(-1)]), now.logx, false), yaxis: span(ys, now.logy, true) };
}

// The chart for those who do not see it.
function inWords(lines, now) {
  const unit = data.percent.includes(now.metric) ? " %" : "";
  const ends = lines.map((line) => [line.text, line.y.at(-1)]).sort((a, b) => b[1] - a[1]);
  const some = ends.slice(0, SPOKEN).map(([name, value]) => `${name}: ${Number(value.toPrecision(4))}${unit}`);
  const rest = ends.length > SPOKEN ? `, and ${ends.length - SPOKEN} more` : "";
  return `${now.metric} over ${titles[now.axis]}, ${ends.length} ${ends.length === 1 ? "line" : "lines"}. Last values: ${some.join(", ") || "none"}${rest}.`;
}

let shown = [];
async function drawCurves() {
  const now = state();
  shown = shownLines(now);
  const height = Math.max(440, Math.min(MOST_LABELS, new Set(shown.map((line) => line.group)).size) * LABEL + 80);
  chart.style.height = `${height}px`; // so that all labels have their place
  const empty = document.getElementById("no-curve");
  empty.hidden = shown.length > 0;
  empty.textContent = data.runs.some((run, place) => series(place, now.axis, now.metric).y.length)
    ? "No run that is switched on has this metric: switch runs on below, or choose another metric."
    : "No run has a validation yet: the curve appears after the first one, when compare.py is called again.";
  const type = now.logx ? "log" : "linear";
  const moved = chart.layout && !chart.layout.xaxis.autorange && chart.layout.xaxis.type === type ? chart.layout.xaxis.range : null;
  const range = moved && now.logx ? moved.map((value) => 10 ** value) : moved;
  const longest = Math.max(0, ...shown.map((line) => labelOf(line).length));
  const unit = data.percent.includes(now.metric) ? ", %" : "";
  const first = !chart._fullLayout;
  const annotations = first && shown.length ? endLabels(shown, expectedAxes(shown, now)) : [];
  chart.setAttribute("aria-label", inWords(shown, now));
  await Plotly.react(chart, traces(shown, range, now), layout((style) => ({
    annotations, margin: { l: 56, r: Math.round(14 + 6.4 * longest), t: 18, b: 45 },
    xaxis: { ...style, title: { text: titles[now.axis] }, type, rangemode: now.logx ? "normal" : "tozero" },
    yaxis: { ...style, title: { text: escaped(now.metric) + unit }, type: now.logy ? "log" : "linear" },
    uirevision: `${now.metric} ${now.axis} ${now.logx} ${now.logy}`,
  })), config);
  if (!first || annotations.length <= EXACT) await Plotly.relayout(chart, { annotations: endLabels(shown, chart._fullLayout) });
  showHighlight();
}

function showHighlight() {
  if (!chart.data || !chart.data.length) return;
  const dim = chart.data.map((trace) => (highlighted && trace.meta !== highlighted ? 0.12 : 1));
  if (dim.some((value, i) => value !== (chart.data[i].opacity ?? 1))) Plotly.restyle(chart, { opacity: dim });
}

function watchZoom() {
  chart.on("plotly_relayout", (change) => {
    if (Object.keys(change).some((key) => key.startsWith("xaxis") || key.startsWith("yaxis"))) drawCurves();
  });
  chart.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const step = { ArrowLeft: [-0.2, -0.2], ArrowRight: [0.2, 0.2], "+": [0.2, -0.2], "=": [0.2, -0.2], "-": [-1 / 3, 1 / 3] }[event.key];
    const [from, to] = chart._fullLayout.xaxis.range;
    if (step) Plotly.relayout(chart, { "xaxis.range": [from + step[0] * (to - from), to + step[1] * (to - from)] });
    else if (event.key === "0") Plotly.relayout(chart, { "xaxis.autorange": true, "yaxis.autorange": true });
    else return;
    event.preventDefault();
  });
}
