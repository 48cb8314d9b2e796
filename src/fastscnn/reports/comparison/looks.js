"use strict";
// How each group looks: its colour, the pattern of its line and the symbol on it, its swatch, and colours that can be read.

const data = JSON.parse(document.getElementById("data").textContent);
const groups = data.groups;
const numberOf = new Map(groups.map((group, place) => [group, place + 1]));
// Eight colours that readers with any colour vision tell apart (after Okabe and Ito, and Tol). With more than eight
// groups the pattern of the line changes, with more than 24 a symbol stands on it.
const COLOURS = ["#0077bb", "#e0701a", "#009988", "#cc3311", "#2aa5d8", "#d6409f", "#94780a", "#7a63c8"];
const PATTERNS = [["solid", "dash"], ["dot", "longdash"], ["dashdot", "longdashdot"]]; // of plain and of pre-trained runs
const SYMBOLS = ["", "circle", "square", "diamond", "triangle-up", "x"];
const DASHES = { solid: "", dot: "2 3", dash: "6 3", longdash: "10 3", dashdot: "7 3 2 3", longdashdot: "11 3 2 3" };
const OUTLINES = {
  circle: "M13 1.5a3.5 3.5 0 1 0 .01 0z", square: "M10 2h6v6h-6z", diamond: "M13 .5l4.5 4.5-4.5 4.5-4.5-4.5z",
  "triangle-up": "M13 1l4 7.5h-8z", x: "M10 1l3 3 3-3 1 1-3 3 3 3-1 1-3-3-3 3-1-1 3-3-3-3z",
};
const LINE = 3, TEXT = 4.5; // the contrasts to the page that lines and words need at least (WCAG 1.4.11, 1.4.3)
const turn = (group, every, choices) => choices[Math.floor(((numberOf.get(group) ?? 1) - 1) / every) % choices.length];
const patternOf = (group, pretrained) => turn(group, COLOURS.length, PATTERNS)[pretrained ? 1 : 0];
const symbolOf = (group) => turn(group, COLOURS.length * PATTERNS.length, SYMBOLS);
const colourOf = (group) => toned(turn(group, 1, COLOURS), LINE);
const textColourOf = (group) => toned(turn(group, 1, COLOURS), TEXT);

const themed = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const channels = (hex) => (hex.length === 4 ? [1, 2, 3].map((i) => hex[i] + hex[i]) : [1, 3, 5].map((i) => hex.slice(i, i + 2))).map((part) => parseInt(part, 16));
function luminance(colour) {
  const [red, green, blue] = colour.map((value) => (value / 255 <= 0.04045 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}
const contrast = (a, b) => (Math.max(luminance(a), luminance(b)) + 0.05) / (Math.min(luminance(a), luminance(b)) + 0.05);
const tones = new Map();
let page = "";

// The colour, as little nearer to that of the text as it takes to stand out from the page.
function toned(colour, ratio) {
  const key = `${colour} ${ratio}`;
  if (!tones.has(key)) {
    page ||= themed("--page");
    const [from, to, ground] = [colour, themed("--text"), page].map(channels);
    let share = 0, mixed = from;
    while (contrast(mixed, ground) < ratio && share < 1) {
      share += 0.04;
      mixed = from.map((value, i) => Math.round(value + share * (to[i] - value)));
    }
    tones.set(key, `#${mixed.map((value) => value.toString(16).padStart(2, "0")).join("")}`);
  }
  return tones.get(key);
}

// A piece of a line.
function swatch(colour, pattern, symbol) {
  const mark = symbol ? `<path d="${OUTLINES[symbol]}" fill="${colour}"/>` : "";
  return `<svg class="swatch" viewBox="0 0 26 10" aria-hidden="true"><path d="M0 5H26" stroke="${colour}" stroke-width="2.5" stroke-dasharray="${DASHES[pattern]}"/>${mark}</svg>`;
}

// The swatches of all elements that say what they stand for.
function drawSwatches() {
  for (const box of document.querySelectorAll("[data-look]")) {
    const name = box.dataset.look, known = numberOf.has(name);
    const colour = known ? colourOf(name) : box.dataset.colour;
    box.innerHTML = swatch(colour, known ? patternOf(name, box.dataset.dashed === "true") : "solid", known ? symbolOf(name) : "");
  }
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { tones.clear(); page = ""; });
