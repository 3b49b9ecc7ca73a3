// The words that carry a verdict: marked in the text, and in a list that says the same in words.

import { $, beginning, make, percent, shown } from "./dom.js";
import { catalog } from "./service.js";
import { found } from "./verdicts.js";

const ALL = "";
const MOST_LISTED = 40;

let texts = []; // of each panel its parts: title, points, row
let chosen = ALL;

/** Panels of texts with their marks; each of `asked` is a list of parts of one prompt. */
export function wordsPanels(asked, titles, words) {
  texts = asked.map((parts) => parts.map((part) => ({ ...part, points: Array.from(part.text) })));
  chosen = catalog.classifiers.some(({ id }) => id === words) ? words : ALL;
  return texts.map((parts, i) => {
    const panel = make("section", { class: "panel words", "aria-label": titles[i] });
    fillPanel(panel, titles[i], parts, i);
    return panel;
  });
}

function fillPanel(panel, title, parts, which) {
  const select = make("select", { "aria-label": "Words of which classifier" },
    new Option("every classifier", ALL), ...catalog.classifiers.map(({ id }) => new Option(id, id)));
  select.value = chosen;
  select.addEventListener("change", () => {
    chosen = select.value;
    document.querySelectorAll(".panel.words").forEach((one, i) => fillPanel(one, one.getAttribute("aria-label"), texts[i], i));
    document.querySelectorAll(".words-of select")[which].focus();
    $("results").dispatchEvent(new Event("view"));
  });
  const box = make("div", { class: "told", tabindex: "0", role: "region", dir: "auto", "aria-label": title + ", as text" });
  const list = make("ol", { class: "carriers" });
  for (const [place, part] of parts.entries()) {
    const spans = spansOf(part);
    if (part.title) box.append(head(part));
    box.append(...marked(part, spans, `w${which}-${place}`));
    list.append(...carriers(part, spans, `w${which}-${place}`));
  }
  const label = make("label", { class: "words-of" }, "of ", select);
  panel.replaceChildren(make("div", { class: "head" }, make("h2", {}, title), label), box);
  if (list.children.length) {
    const left = [...list.children].slice(MOST_LISTED);
    for (const one of left) one.remove();
    panel.append(list);
    if (left.length) panel.append(make("p", { class: "soft small" }, `and ${left.length} more`));
  }
  panel.append(...remarks(parts, list.children.length > 0));
}

function head(part) {
  const byLabel = new Map();
  for (const known of catalog.classifiers) {
    if (!part.row || (chosen === ALL ? known.kind === "multiclass" : known.id !== chosen)) continue;
    for (const label of found(known, part.row.verdicts[known.id])) {
      byLabel.set(label, [...(byLabel.get(label) ?? []), known.id]);
    }
  }
  const line = make("h3", {}, part.title);
  for (const [label, by] of byLabel) {
    line.append(" ", make("span", { class: "badge bad" }, label), ` by ${by.join(", ")}`);
  }
  return line;
}

/** Who found something in all of the text, and in no part more than in others; or nothing. */
function remarks(parts, isMarked) {
  const asked = catalog.classifiers.filter(({ id }) => chosen === ALL || id === chosen);
  const told = [];
  for (const known of asked) {
    if (known.kind === "multiclass" && chosen === ALL) continue;
    const labels = new Set(parts.flatMap(({ row }) => row ? found(known, row.verdicts[known.id]) : []));
    for (const part of parts) for (const { label } of spansOf(part, known.id)) labels.delete(label);
    if (labels.size) told.push(`${[...labels].join(", ")} (${known.id})`);
  }
  const lines = [];
  if (told.length) lines.push(`In no part more than in others: ${told.join("; ")}.`);
  if (!asked.some(({ spans }) => spans)) lines.push("No such classifier can say where in a text a class is.");
  if (!lines.length && !isMarked) lines.push("Nothing was found.");
  return lines.map((line) => make("p", { class: "soft small remark" }, line));
}

/** Places of the classes that a part has; of one classifier, or of all that look for something. */
function spansOf({ row, points }, only = chosen) {
  if (!row) return [];
  const size = points.join("").trim() ? Array.from(points.join("").trim()).length : 0;
  const all = [];
  for (const known of catalog.classifiers) {
    if (only === ALL ? known.kind === "multiclass" : known.id !== only) continue;
    const verdict = row.verdicts[known.id];
    const there = found(known, verdict);
    for (const span of verdict.spans ?? []) {
      // A span of the whole text tells nothing that the verdict does not.
      if (there.includes(span.label) && span.end - span.begin < size) all.push({ ...span, by: known.id });
    }
  }
  return all.sort((a, b) => a.begin - b.begin || b.end - a.end);
}

/** A text cut where its spans begin and end. Offsets count code points, JavaScript UTF-16 units. */
function marked({ points }, spans, name) {
  const edges = [...new Set([0, points.length, ...spans.flatMap(({ begin, end }) => [begin, end])])].sort((a, b) => a - b);
  const pieces = edges.slice(0, -1).map((begin, i) => {
    const end = edges[i + 1];
    return { begin, end, here: spans.filter((span) => span.begin <= begin && end <= span.end) };
  });
  const most = Math.max(2, ...pieces.map(({ here }) => here.length));
  const nodes = [];
  for (const { begin, end, here } of pieces) {
    const text = shown(points.slice(begin, end).join(""));
    if (!here.length) { nodes.push(text); continue; }
    const labels = [...new Set(here.map(({ label }) => label))].join(", ");
    nodes.push(make("mark", {
      class: here.length === most ? "deep" : "", id: `${name}-${begin}`, tabindex: "-1",
      title: here.map(({ label, score, by }) => `${label} ${percent(score)} (${by})`).join("\n"),
    }, make("span", { class: "hidden" }, `[${labels}: `), text, make("span", { class: "hidden" }, "]")));
  }
  return nodes;
}

/** The same in words: which part, what it is, and who says so. */
function carriers({ points, title }, spans, name) {
  const groups = new Map();
  for (const span of spans) {
    const key = `${span.begin} ${span.end}`;
    groups.set(key, [...(groups.get(key) ?? []), span]);
  }
  const best = (group) => Math.max(...group.map(({ score }) => score));
  return [...groups.values()].sort((a, b) => best(b) - best(a)).map((group) => {
    const { begin, end } = group[0];
    const told = group.map(({ label, score, by }) => `${label} ${percent(score)} (${by})`).join(", ");
    const button = make("button", { type: "button" },
      make("q", { dir: "auto" }, beginning(Array.from(points.slice(begin, end).join("").trim()))), ` ${told}`);
    if (title) button.append(make("span", { class: "soft" }, `, ${title}`));
    button.addEventListener("click", () => $(`${name}-${begin}`)?.focus());
    return make("li", {}, button);
  });
}

/** Let the first marks be seen in boxes that are longer than high. */
export function showFirstMarks() {
  for (const box of document.querySelectorAll(".told")) {
    const mark = box.querySelector("mark");
    if (mark) box.scrollTop = mark.offsetTop - 40;
  }
}
