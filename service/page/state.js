// What is asked and how it is looked at: in the form, and in the fragment of an address, which a
// browser keeps to itself.

import { $, make } from "./dom.js";

const MODES = ["text", "pair", "conversation"];
const ROLES = ["system", "user", "assistant"];
const OVERFLOWS = ["window", "truncate"];

export const view = { overflow: null };

export function mode() {
  return document.querySelector("input[name=mode]:checked").value;
}

export function setMode(chosen) {
  for (const one of document.querySelectorAll("input[name=mode]")) one.checked = one.value === chosen;
  const isPair = chosen === "pair", isTalk = chosen === "conversation";
  $("texts").hidden = isTalk;
  $("conversation").hidden = !isTalk;
  $("other-box").hidden = !isPair;
  $("text-label").textContent = isPair ? "First text" : "Text";
  $("text").required = !isTalk;
  $("other").required = isPair;
  if (isTalk && !$("messages").children.length) setMessages([{ role: "user", content: "" }]);
  for (const one of $("messages").querySelectorAll("textarea")) one.required = isTalk;
}

/** Messages are counted from 0, as in what the service and the library answer. */
function relabel() {
  [...$("messages").children].forEach((item, i) => {
    item.querySelector("select").setAttribute("aria-label", `Who says message ${i}`);
    item.querySelector("textarea").setAttribute("aria-label", `Message ${i}`);
    const button = item.querySelector("button");
    button.setAttribute("aria-label", `Remove message ${i}`);
    button.disabled = $("messages").children.length < 2;
  });
}

export function addMessage({ role, content }) {
  const select = make("select", {}, ...ROLES.map((one) => new Option(one, one)));
  select.value = ROLES.includes(role) ? role : "user";
  const box = make("textarea", { dir: "auto", spellcheck: "false", required: true });
  box.value = content;
  const button = make("button", { type: "button", title: "Remove this message" }, "×");
  const item = make("li", {}, select, box, button);
  button.addEventListener("click", () => {
    const next = item.nextElementSibling ?? item.previousElementSibling;
    item.remove();
    relabel();
    next?.querySelector("textarea").focus();
  });
  $("messages").append(item);
  relabel();
  return box;
}

export function setMessages(messages) {
  $("messages").replaceChildren();
  messages.forEach(addMessage);
}

export function messages() {
  return [...$("messages").children].map((item) => ({
    role: item.querySelector("select").value,
    content: item.querySelector("textarea").value,
  }));
}

/** What is to be read: a list of texts, or of one conversation. */
export function prompts() {
  if (mode() === "conversation") return [{ messages: messages() }];
  return mode() === "pair" ? [$("text").value, $("other").value] : [$("text").value];
}

/** Put what is asked into the form; what is missing is empty, or as it was. */
export function fill({ mode: chosen = "text", text = "", other = "", messages: said }) {
  $("text").value = text;
  $("other").value = other;
  if (said) setMessages(said);
  view.overflow = null;
  setMode(chosen);
}

/** Fragment that reproduces the view. */
export function fragment() {
  const found = new URLSearchParams({ mode: mode() });
  if (mode() === "conversation") found.set("messages", JSON.stringify(messages()));
  else found.set("text", $("text").value);
  if (mode() === "pair") found.set("other", $("other").value);
  if (!$("models").hidden) found.set("model", $("model").value);
  found.set("features", $("set").value);
  if (view.overflow) found.set("overflow", view.overflow);
  if ($("feature").value) {
    found.set("feature", $("feature").value);
    found.set("layer", $("layer").dataset.layer);
  }
  const words = document.querySelector(".words-of select");
  if (words) found.set("words", words.value);
  return "#" + found;
}

function saidIn(json) {
  try {
    const found = JSON.parse(json);
    const isSaid = (one) => typeof one?.content === "string" && ROLES.includes(one?.role);
    return Array.isArray(found) && found.length && found.every(isSaid) ? found : null;
  } catch { return null; }
}

/** Fill the form from a fragment; gives what it says of the view, or null if it asks nothing. */
export function readFragment(hash) {
  const found = new URLSearchParams(hash.replace(/^#/, ""));
  const said = saidIn(found.get("messages"));
  if (!said && !found.has("text")) return null;
  const chosen = said ? "conversation" : found.get("mode");
  fill({
    mode: MODES.includes(chosen) && (said || chosen !== "conversation") ? chosen : "text",
    text: found.get("text") ?? "",
    other: found.get("other") ?? "",
    messages: said ?? undefined,
  });
  if (found.has("features")) choose($("set"), found.get("features"));
  if (OVERFLOWS.includes(found.get("overflow"))) view.overflow = found.get("overflow");
  return Object.fromEntries(["model", "feature", "layer", "words"].map((name) => [name, found.get(name)]));
}

/** Choose an option if it is there. */
export function choose(select, value) {
  if ([...select.options].some((one) => one.value === value)) select.value = value;
}
