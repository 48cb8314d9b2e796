"use strict";
// The table of all runs: sorting, filtering, and which runs are switched on. charts.js draws what is on.

const table = document.querySelector("#all table");
const body = table.tBodies[0];
const rows = [...body.rows];
const boxes = rows.map((row) => row.querySelector("input"));
const isOn = (place) => Boolean(boxes[place] && boxes[place].checked);
const legend = new Map();
let highlighted = null;
function highlight(name) {
  highlighted = name;
  showHighlight();
}

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
  document.getElementById("shown").textContent = !words.length ? "" : shown ? `${shown} of ${rows.length} runs shown`
    : `No run has ${words.length > 1 ? "all of these words" : "this word"}: shorten or clear the filter.`;
}

function makeLegend() {
  const list = document.getElementById("groups");
  for (const group of groups) {
    const members = data.runs.flatMap((run, place) => (run.group === group && boxes[place] ? [place] : []));
    if (!members.length) continue;
    const dashed = members.every((place) => data.runs[place].dashed);
    const box = addSwitch(list, group, { dashed }, members.length, numberOf.get(group));
    box.addEventListener("change", () => switchRuns(members, box.checked));
    legend.set(group, { box, members });
  }
  for (const [name, series] of Object.entries(data.paper)) {
    series.box = addSwitch(list, name, { colour: series.colour }, 0, "");
    series.box.checked = series.on;
    series.box.addEventListener("change", redraw);
  }
}

function addSwitch(list, name, look, count, number) {
  const item = document.createElement("li");
  item.innerHTML = '<label><input type="checkbox"><span class="number"></span><span data-look></span><span class="name"></span></label>';
  Object.assign(item.querySelector("[data-look]").dataset, { look: name, ...look });
  item.querySelector(".number").textContent = number;
  item.querySelector(".name").textContent = count > 1 ? `${name} (${count})` : name;
  item.querySelector("label").title = name;
  for (const event of ["mouseenter", "focusin"]) item.addEventListener(event, () => highlight(name));
  for (const event of ["mouseleave", "focusout"]) item.addEventListener(event, () => highlight(null));
  list.append(item);
  return item.querySelector("input");
}

function switchRuns(places, on) {
  for (const place of places) if (boxes[place]) boxes[place].checked = on;
  redraw();
}

function showSwitches() {
  control("smoothing").value = control("smooth").value;
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
  writeAddress();
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => { waiting = false; drawAll(); });
}

// What the reader has chosen stands in the address, so that a link shows the same.
const CONTROLS = ["metric", "axis", "view", "logx", "logy", "smooth", "filter"];
const control = (name) => document.getElementById(name);
const isBox = (name) => control(name).type === "checkbox";
const initial = {};

function readAddress() {
  control("metric").append(...data.metrics.map((name) => new Option(name)));
  for (const name of CONTROLS) initial[name] = isBox(name) ? control(name).checked : control(name).value;
  const wanted = new URLSearchParams(location.hash.slice(1));
  for (const name of CONTROLS) {
    if (!wanted.has(name)) continue;
    if (isBox(name)) control(name).checked = wanted.get(name) === "true";
    else if (control(name).tagName !== "SELECT" || [...control(name).options].some((o) => o.value === wanted.get(name)))
      control(name).value = wanted.get(name);
  }
  const off = new Set(wanted.getAll("off"));
  rows.forEach((row, place) => { if (boxes[place] && off.has(row.dataset.run)) boxes[place].checked = false; });
  if (wanted.has("sort")) {
    const [title, direction] = wanted.get("sort").split(":");
    const header = [...table.tHead.rows[0].cells].find((cell) => cell.textContent === title);
    for (let i = 0; header && header.getAttribute("aria-sort") !== direction && i < 2; i++) sortBy(header);
  }
  return wanted;
}

function writeAddress() {
  const now = new URLSearchParams();
  for (const name of CONTROLS) {
    const value = isBox(name) ? control(name).checked : control(name).value;
    if (value !== initial[name]) now.set(name, value);
  }
  const place = document.getElementById("place");
  if (place && place.selectedIndex > 0) now.set("place", place.value);
  const sorted = table.tHead.querySelector("[aria-sort=ascending], [aria-sort=descending]");
  if (sorted) now.set("sort", `${sorted.textContent}:${sorted.getAttribute("aria-sort")}`);
  rows.forEach((row, number) => { if (boxes[number] && !isOn(number)) now.append("off", row.dataset.run); });
  history.replaceState(null, "", now.size ? `#${now}` : location.pathname + location.search);
}

const wanted = readAddress();
filterRows(control("filter").value);
for (const name of CONTROLS) {
  control(name).addEventListener("input", () => {
    if (name === "filter") filterRows(control(name).value);
    else redraw();
    writeAddress();
  });
}
for (const header of table.tHead.rows[0].cells) {
  const button = header.querySelector("button");
  if (button) button.addEventListener("click", () => { sortBy(header); writeAddress(); });
}
rows.forEach((row, place) => {
  if (!boxes[place]) return;
  boxes[place].addEventListener("change", redraw);
});
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
drawSwatches();
showSwitches();
