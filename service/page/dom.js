// Elements, numbers and texts. Whatever a text holds, it is only ever text: nothing here writes HTML.

export const $ = (id) => document.getElementById(id);

export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "class") element.className = value;
    else if (name === "data") Object.assign(element.dataset, value);
    else if (name in element && typeof value !== "string") element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

export const number = (n) => n.toLocaleString("en");
export const plural = (n, one, many = one + "s") => number(n) + " " + (n === 1 ? one : many);
export const percent = (share) => (100 * share).toFixed(1) + " %";
export const duration = (ms) => (ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`);
export const short = (value) => String(Number(value.toPrecision(4)));

// What turns the direction of what is around it, ends a line or is no character; as splinellm.shown.
const ACTING = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\u2028\u2029\ufffe\uffff]|\p{Cs}/gu;

function picture(one) {
  const code = one.codePointAt(0);
  if (code < 0x20) return String.fromCodePoint(0x2400 + code);
  if (code === 0x7f) return "␡";
  if ((code >= 0xd800 && code <= 0xdfff) || code >= 0xfffe) return "\ufffd";
  return "\\u" + code.toString(16).padStart(4, "0");
}

/** A text in which every character is seen, or does nothing; it keeps its line breaks and tabs. */
export const shown = (text) => text.replace(ACTING, picture);

/** The same on one line. */
export const shownInLine = (text) => shown(text).replaceAll("\n", "⏎").replaceAll("\t", "⇥");

/** The first characters of a text on one line. */
export function beginning(points, most = 60) {
  const kept = points.length > most ? [...points.slice(0, most), "…"] : points;
  return shownInLine(kept.join(""));
}
