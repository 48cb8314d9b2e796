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
  section.prepend(bar);
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
  const move = () => gallery.style.setProperty("--at", slider.value);
  slider.addEventListener("input", move);
  move();
  const without = document.getElementById("without");
  if (without) without.addEventListener("change", () => gallery.classList.toggle("without", without.checked));
}

function drawAll() {
  const drawn = [drawCurves()];
  if (places.length) drawn.push(drawBars());
  if (data.gaps.length) drawn.push(drawForest());
  return Promise.all(drawn);
}

if (!data.gaps.length) document.getElementById("effects").hidden = true;
choosePlaces();
drawAll().then(() => {
  watchZoom();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  let width = innerWidth;
  addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; redraw(); } });
  requestAnimationFrame(() => setTimeout(() => { document.documentElement.dataset.ready = performance.now().toFixed(0); }));
});
