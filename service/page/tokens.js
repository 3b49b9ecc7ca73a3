// Tokens, coloured by a feature at a layer.

import { $, make, number, plural, short, shown, shownInLine } from "./dom.js";
import { described, plain } from "./names.js";

const MANY = 40; // from so many tokens on, the extreme ones do not set the scale
const EDGE = 0.02;
const FEW = 3;

let answers = [];
let selected = null; // which text, which token
let changed = () => {};

export const at = () => ({ layer: Number($("layer").value), feature: $("feature").selectedIndex });
export const selection = () => selected;

/** Set up the choosers once; `onChange` is called when layer, feature or token are chosen. */
export function watchTokens(onChange) {
  changed = onChange;
  for (const id of ["layer", "feature"]) $(id).addEventListener("input", () => { draw(); changed(); });
  $("tokens").addEventListener("pointerover", (event) => { const one = tokenOf(event); if (one) say(one); });
  $("tokens").addEventListener("pointerleave", () => { if (selected) say(selected); });
  $("tokens").addEventListener("click", (event) => { const one = tokenOf(event); if (one) select(one); });
  $("tokens").addEventListener("keydown", move);
}

/** Show tokens of one text or of two, on one scale. */
export function showTokens(found, texts, titles, { feature, layer } = {}) {
  answers = found;
  selected = null;
  const { token_feature_names: names, layers } = found[0];
  const before = feature ?? $("feature").value;
  $("feature").replaceChildren(...names.map((name) => new Option(described(name), name)));
  if (names.includes(before)) $("feature").value = before;
  const place = layers.indexOf(Number(layer ?? $("layer").dataset.layer ?? NaN));
  $("layer").max = layers.length - 1;
  $("layer").value = place >= 0 ? place : Math.floor(layers.length / 2);
  $("tokens").className = found.length > 1 ? "row of-two" : "row";
  $("tokens").replaceChildren(...found.map((answer, i) => panel(answer, texts[i], titles[i], i)));
  $("token-shown").textContent = "Point at a token, or move through them with the arrow keys.";
  draw();
}

function panel(answer, text, title, which) {
  const box = make("div", { class: "tokens", role: "listbox", tabindex: "0", dir: "auto", "aria-label": title, data: { which } });
  box.append(...spans(answer, text, which));
  const count = plural(answer.n_tokens, "token") + (answer.truncated ? ", the rest of the text is not read here" : "");
  return make("div", {}, make("p", { class: "soft small" }, answers.length > 1 ? `${title}: ${count}` : count), box);
}

/** A token shows its part of the text; of tokens that share a character, the first has it. */
function spans(answer, text, which) {
  const parts = typeof text === "string" ? [text] : text.messages.map(({ content }) => content);
  const points = parts.map((part) => Array.from(part));
  const nodes = [];
  let message = null, reached = 0;
  answer.tokens.forEach((token, i) => {
    const isPlaced = token.begin !== null;
    const of = typeof text === "string" ? 0 : token.message ?? null;
    if (isPlaced && of !== message) [message, reached] = [of, 0];
    let own = token.token;
    if (isPlaced) {
      const gap = points[of].slice(reached, token.begin).join("");
      if (gap) nodes.push(shown(gap));
      own = points[of].slice(Math.max(token.begin, reached), token.end).join("");
      reached = Math.max(reached, token.end);
    }
    const seen = readable(own);
    const name = seen.trim() ? {} : { "aria-label": plural(seen.length, "space") }; // read out as nothing
    nodes.push(make("span", { role: "option", id: `t${which}-${i}`, "aria-selected": "false", ...name, data: { i } }, seen));
  });
  return nodes;
}

const readable = (own) => shown(own).replaceAll("\n", "⏎\n").replaceAll("\t", "⇥\t") || "·";

const valuesOf = (answer, { layer, feature }) => answer.tokens.map(({ values }) => values[layer][feature]);

/**
 * Least and most of the scale, and what is beyond it: of many tokens the extreme ones; of a few the
 * first, which models treat as no other, if the rest would look alike (as splinellm.token_index).
 */
function scale(columns) {
  const sorted = columns.flat().sort((a, b) => a - b);
  const [least, most] = [sorted[0], sorted.at(-1)];
  if (sorted.length >= MANY) {
    const cut = Math.max(1, Math.floor(EDGE * sorted.length));
    return { low: sorted[cut], high: sorted.at(-1 - cut), note: "a fiftieth of the tokens is beyond either end" };
  }
  const rest = columns.flatMap((values) => values.slice(1));
  const [low, high] = [Math.min(...rest), Math.max(...rest)];
  const isApart = rest.length >= FEW && high > low && Math.max(low - least, most - high) > high - low;
  if (isApart) return { low, high, note: "the first token is beyond the scale" };
  return { low: least, high: most, note: "" };
}

function draw() {
  const place = at();
  const columns = answers.map((answer) => valuesOf(answer, place));
  const { low, high, note } = scale(columns);
  columns.forEach((values, which) => values.forEach((value, i) => {
    const share = high > low ? Math.min(1, Math.max(0, (value - low) / (high - low))) : 0;
    $(`t${which}-${i}`).style.setProperty("--share", share.toFixed(3));
  }));
  const { layers } = answers[0];
  $("layer-shown").textContent = `${layers[place.layer]} of ${layers[0]} to ${layers.at(-1)}`;
  $("layer").dataset.layer = layers[place.layer]; // another model may have others
  $("layer").setAttribute("aria-valuetext", `layer ${layers[place.layer]}`);
  $("least").textContent = short(low);
  $("most").textContent = short(high);
  $("scale").textContent = note;
  if (selected) say(selected);
}

function tokenOf(event) {
  const token = event.target.closest("[data-i]");
  return token && { which: Number(token.parentElement.dataset.which), i: Number(token.dataset.i) };
}

function say({ which, i }) {
  const answer = answers[which], place = at();
  const token = answer.tokens[i];
  const name = answer.token_feature_names[place.feature];
  const role = token.role ? `, said by ${token.role}` : "";
  $("token-shown").textContent =
    `Token ${number(i + 1)} of ${number(answer.tokens.length)}, “${shownInLine(token.token)}”${role}: ` +
    `${plain(name)} ${short(token.values[place.layer][place.feature])} at layer ${answer.layers[place.layer]}`;
}

function select(one) {
  if (selected) {
    $(`t${selected.which}-${selected.i}`).setAttribute("aria-selected", "false");
    $("tokens").querySelector("[aria-activedescendant]")?.removeAttribute("aria-activedescendant");
  }
  selected = one;
  const token = $(`t${one.which}-${one.i}`);
  token.setAttribute("aria-selected", "true");
  token.parentElement.setAttribute("aria-activedescendant", token.id);
  token.scrollIntoView({ block: "nearest" });
  say(one);
  changed();
}

function move(event) {
  const box = event.target.closest("[data-which]");
  const steps = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1, Home: -Infinity, End: Infinity };
  if (!box || !(event.key in steps) || event.ctrlKey || event.altKey || event.metaKey) return;
  event.preventDefault();
  const which = Number(box.dataset.which), last = answers[which].tokens.length - 1;
  const from = selected?.which === which ? selected.i : -1;
  select({ which, i: Math.min(last, Math.max(0, from + steps[event.key])) });
}
