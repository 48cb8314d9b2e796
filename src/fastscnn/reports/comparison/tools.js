"use strict";
// Saving charts and tables, the gallery's slider, and the first drawing.

function download(name, content, type) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

const fileName = (title, suffix) => `${title.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "")}.${suffix}`;

function cells(table) {
  return [...table.rows].filter((row) => !row.hidden).map((row) => [...row.cells].map((cell) => cell.textContent.trim()));
}

const asCSV = (rows) => rows.map((row) => row.map((text) => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text)).join(",")).join("\n") + "\n";

const SPECIAL = { "\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "±": "$\\pm$", "−": "$-$", "Δ": "$\\Delta$" };
const latexText = (text) => text.replace(/[\\~^±−Δ]|[&%$#_{}]/g, (sign) => SPECIAL[sign] ?? `\\${sign}`);

function asLatex(rows, numeric, title) {
  const line = (row) => `${row.map(latexText).join(" & ")} \\\\`;
  const columns = rows[0].map((_, i) => (numeric[i] ? "r" : "l")).join("");
  return [
    `% ${title}; needs \\usepackage{booktabs}`, `\\begin{tabular}{${columns}}`, "\\toprule", line(rows[0]), "\\midrule",
    ...rows.slice(1).map(line), "\\bottomrule", "\\end{tabular}", "",
  ].join("\n");
}

function addExports(section, buttons) {
  const bar = document.createElement("span");
  bar.className = "exports";
  for (const [text, label, call] of buttons) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = text;
    button.setAttribute("aria-label", label);
    button.addEventListener("click", call);
    bar.append(button);
  }
  section.querySelector("h2").after(bar);
}

for (const section of document.querySelectorAll("section.table, #all")) {
  const title = section.querySelector("h2").textContent;
  const shownTable = section.querySelector("table");
  const numeric = () => [...shownTable.tHead.rows[0].cells].map((cell) => cell.classList.contains("number"));
  const isRuns = section.id === "all"; // its first column holds switches
  const content = () => { const found = cells(shownTable); return isRuns ? found.map((row) => row.slice(1)) : found; };
  addExports(section, [
    ["CSV", `${title} as CSV`, () => download(fileName(title, "csv"), asCSV(content()), "text/csv")],
    ["LaTeX", `${title} as LaTeX`, () => download(fileName(title, "tex"), asLatex(content(), isRuns ? numeric().slice(1) : numeric(), title), "application/x-tex")],
  ]);
}
for (const [section, id] of [["effects", "forest"], ["curves", "curve"], ["classes", "bars"]]) {
  const title = document.querySelector(`#${section} h2`).textContent;
  addExports(document.getElementById(section), [["SVG", `${title} as SVG`, async () => {
    const address = await Plotly.toImage(id, { format: "svg", width: Math.max(900, document.getElementById(id).clientWidth), height: document.getElementById(id).clientHeight });
    download(fileName(title, "svg"), decodeURIComponent(address.slice(address.indexOf(",") + 1)), "image/svg+xml");
  }]]);
}

const gallery = document.getElementById("gallery");
if (gallery) {
  const slider = document.getElementById("between");
  const stops = ["prediction", "truth", "input"];
  const move = () => {
    const at = Number(slider.value), from = Math.floor(at);
    gallery.style.setProperty("--at", slider.value);
    slider.setAttribute("aria-valuetext", at === from ? stops[from] : `between ${stops[from]} and ${stops[from + 1]}`);
  };
  slider.addEventListener("input", move);
  move();
  const without = document.getElementById("without");
  if (without) without.addEventListener("change", () => gallery.classList.toggle("without", without.checked));
}

// The charts in view are drawn first. The page answers then, and the others follow one by one while nothing else is due.
const drawings = new Map([["curve", drawCurves]]);
if (data.gaps.length) drawings.set("forest", drawForest);
if (places.length) drawings.set("bars", drawBars);
const due = new Set(drawings.keys());
const mark = (name) => { document.documentElement.dataset[name] = performance.now().toFixed(0); };
const painted = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
const idle = () => new Promise((done) => (window.requestIdleCallback ? requestIdleCallback(done, { timeout: 300 }) : setTimeout(done)));

function draw(name) {
  const first = due.delete(name);
  return Promise.resolve(drawings.get(name)()).then(() => {
    for (const inner of document.querySelectorAll(`#${name} .plot-container, #js-plotly-tester`)) inner.setAttribute("aria-hidden", "true");
    if (first && name === "curve") watchZoom();
  });
}

function drawAll() { // what is still due is drawn in its turn
  return Promise.all([...drawings.keys()].filter((name) => !due.has(name)).map(draw));
}

async function openPage() {
  const inView = (name) => {
    const { top, bottom } = document.getElementById(name).getBoundingClientRect();
    return top < innerHeight && bottom > 0;
  };
  for (const name of [...due].filter(inView)) await draw(name);
  await painted();
  mark("ready");
  while (due.size) {
    await idle();
    const next = [...due].find(inView) ?? [...due][0];
    if (next) await draw(next);
  }
  await painted();
  mark("drawn");
}

document.getElementById("no-forest").hidden = data.gaps.length > 0;
document.getElementById("forest").hidden = !data.gaps.length;
document.getElementById("no-bars").hidden = places.length > 0;
document.getElementById("bars").hidden = !places.length;
document.getElementById("forest").style.minHeight = `${forestHeight()}px`;
choosePlaces();
addEventListener("beforeprint", () => { for (const name of due) draw(name); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { drawSwatches(); drawAll(); });
let width = innerWidth;
addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; redraw(); } });
openPage();
