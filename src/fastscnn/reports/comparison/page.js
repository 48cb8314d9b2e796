"use strict";
// The table of all runs: sorting, filtering, and which runs are switched on. charts.js draws what is on.

const data = JSON.parse(document.getElementById("data").textContent);
const COLOURS = ["#3b7dd8", "#e07b1a", "#2f9e5b", "#d64550", "#8f63c9", "#17a2b0", "#b8860b", "#d9569c", "#7d6b5d", "#7a9a1f"];
const groups = data.groups;
const colourOf = new Map(groups.map((group, place) => [group, COLOURS[place % COLOURS.length]]));
const table = document.querySelector("#all table");
const body = table.tBodies[0];
const rows = [...body.rows];
const boxes = rows.map((row) => row.querySelector("input"));
const isOn = (place) => Boolean(boxes[place] && boxes[place].checked);
const legend = new Map();

function cellValue(row, column, numeric) {
  const text = row.cells[column].textContent.trim();
  if (!numeric) return text.toLowerCase();
  return text === "" ? NaN : Number(text);
}

function sortBy(header) {
  const column = header.cellIndex;
  const numeric = header.classList.contains("number");
  const first = numeric ? "descending" : "ascending";
  const now = header.getAttribute("aria-sort");
  const direction = now === "none" ? first : now === "ascending" ? "descending" : "ascending";
  for (const other of table.tHead.rows[0].cells) if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
  header.setAttribute("aria-sort", direction);
  const sign = direction === "ascending" ? 1 : -1;
  const keyed = [...body.rows].map((row) => [cellValue(row, column, numeric), row]);
  const isEmpty = (value) => value === "" || Number.isNaN(value); // empty cells come last in both directions
  keyed.sort(([a], [b]) => {
    if (isEmpty(a) || isEmpty(b)) return isEmpty(a) - isEmpty(b);
    return sign * (numeric ? a - b : a.localeCompare(b, undefined, { numeric: true }));
  });
  body.append(...keyed.map(([, row]) => row));
}

function filterRows(text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  for (const row of rows) row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word));
  const shown = rows.filter((row) => !row.hidden).length;
  document.getElementById("shown").textContent = words.length ? `${shown} of ${rows.length} runs shown` : "";
}

function makeLegend() {
  const list = document.getElementById("groups");
  for (const group of groups) {
    const members = data.runs.flatMap((run, place) => (run.group === group && boxes[place] ? [place] : []));
    if (!members.length) continue;
    const dashed = members.every((place) => data.runs[place].dashed);
    const box = addSwitch(list, group, colourOf.get(group), dashed, members.length);
    box.addEventListener("change", () => switchRuns(members, box.checked));
    legend.set(group, { box, members });
  }
  for (const [name, series] of Object.entries(data.paper)) {
    series.box = addSwitch(list, name, series.colour, false, 0);
    series.box.checked = series.on;
    series.box.addEventListener("change", redraw);
  }
}

function addSwitch(list, name, colour, dashed, count) {
  const item = document.createElement("li");
  item.innerHTML = '<label><input type="checkbox"><span class="swatch"></span><span class="name"></span></label>';
  const swatch = item.querySelector(".swatch");
  swatch.style.background = swatch.style.borderColor = colour;
  swatch.classList.toggle("dashed", dashed);
  item.querySelector(".name").textContent = count > 1 ? `${name} (${count})` : name;
  item.querySelector("label").title = name;
  list.append(item);
  return item.querySelector("input");
}

function switchRuns(places, on) {
  for (const place of places) if (boxes[place]) boxes[place].checked = on;
  redraw();
}

function showSwitches() {
  let on = 0;
  for (const { box, members } of legend.values()) {
    const count = members.filter(isOn).length;
    box.checked = count === members.length;
    box.indeterminate = count > 0 && count < members.length;
    on += count;
  }
  document.getElementById("count").textContent = `${on} of ${boxes.filter(Boolean).length} runs on`;
}

let waiting = false;
function redraw() {
  showSwitches();
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => { waiting = false; drawAll(); });
}

for (const header of table.tHead.rows[0].cells) {
  const button = header.querySelector("button");
  if (button) button.addEventListener("click", () => sortBy(header));
}
rows.forEach((row, place) => {
  if (!boxes[place]) return;
  row.querySelector(".swatch").style.background = colourOf.get(data.runs[place].group);
  boxes[place].addEventListener("change", redraw);
});
document.getElementById("filter").addEventListener("input", (event) => filterRows(event.target.value));
for (const button of document.querySelectorAll("[data-all], [data-shown]")) {
  const inFilter = "shown" in button.dataset;
  const on = (inFilter ? button.dataset.shown : button.dataset.all) === "true";
  button.addEventListener("click", () =>
    switchRuns(rows.flatMap((row, place) => (inFilter && row.hidden ? [] : [place])), on));
}
document.getElementById("finished").addEventListener("click", () => {
  boxes.forEach((box, place) => { if (box) box.checked = data.runs[place].finished; });
  redraw();
});
makeLegend();
showSwitches();
