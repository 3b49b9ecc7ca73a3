// Features of the whole text: a cell for each layer and feature.

import { $, make, short } from "./dom.js";
import { plain } from "./names.js";

const MANY = 12; // more features than this are of one kind, and on one scale

/** Show tables of one text or of two, on the same scales. */
export function showLayers(answers, titles) {
  const names = answers[0].feature_names;
  const isWide = names.length > MANY;
  const kept = isWide ? names.filter((name) => name.startsWith("sign_block")) : names;
  const columns = kept.map((name) => {
    const f = names.indexOf(name);
    return answers.flatMap(({ values }) => values.map((layer) => layer[f]));
  });
  const range = (numbers) => [Math.min(...numbers), Math.max(...numbers)];
  const all = isWide ? range(columns.flat()) : null;
  const ranges = columns.map((column) => all ?? range(column));
  $("maps").className = answers.length > 1 ? "row of-two" : "row";
  $("maps").replaceChildren(...answers.map((answer, i) => panel(answer, titles[i], kept, ranges, isWide)));
  $("map-scale").textContent = isWide ? "over all of them" : "each column on its own scale";
}

function panel(answer, title, names, ranges, isWide) {
  const table = make("table", { class: isWide ? "wide" : "" });
  table.append(make("caption", { class: "hidden" }, `${title}features of every layer`));
  const top = make("tr", {}, make("td", { class: "corner" }));
  for (const name of names) {
    top.append(make("th", { scope: "col" }, make("span", {}, isWide ? String(Number(name.replace("sign_block_", ""))) : plain(name))));
  }
  table.createTHead().append(top);
  const body = table.createTBody();
  answer.values.forEach((layer, l) => {
    const row = body.insertRow();
    row.append(make("th", { scope: "row" }, String(answer.layers[l])));
    names.forEach((name, f) => {
      const value = layer[answer.feature_names.indexOf(name)];
      const [low, high] = ranges[f];
      const cell = row.insertCell();
      cell.style.setProperty("--share", (high > low ? (value - low) / (high - low) : 0).toFixed(3));
      cell.tabIndex = l || f ? -1 : 0;
      cell.dataset.say = `Layer ${answer.layers[l]}, ${plain(name)}: ${short(value)}`;
      cell.append(make("span", { class: "hidden" }, short(value)));
    });
  });
  const scroll = make("div", { class: "scroll" }, table);
  return title ? make("div", {}, make("p", { class: "soft small" }, title.replace(/: $/, "")), scroll) : scroll;
}

function say(event) {
  const cell = event.target.closest("td[data-say]");
  if (cell) $("cell").textContent = cell.dataset.say;
}

function move(event) {
  const cell = event.target.closest("td[data-say]");
  const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
  if (!cell || !step) return;
  const next = cell.closest("tbody").rows[cell.parentElement.sectionRowIndex + step[0]]?.cells[cell.cellIndex + step[1]];
  if (next?.tagName !== "TD") return;
  event.preventDefault();
  cell.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
}

export function watchLayers() {
  for (const kind of ["pointerover", "focusin", "click"]) $("maps").addEventListener(kind, say);
  $("maps").addEventListener("keydown", move);
}
