// The view as a link, and its requests as code.

import { $ } from "./dom.js";
import { curl, python } from "./snippets.js";
import { fragment, prompts, view } from "./state.js";
import { verdictsRequest } from "./verdicts.js";

const LONG = 8000; // characters; some programs cut a longer link

let ownHash = location.hash;

/** Whether the fragment of the address was put there by this page. */
export const isOwn = () => location.hash === ownHash;

const here = () => location.pathname + fragment();

/** Let the link follow the view; and the address, if it has a fragment already. */
export function follow() {
  $("link").setAttribute("href", here());
  if (!location.hash) return;
  history.replaceState(null, "", here());
  ownHash = location.hash;
}

/** Body of a request for tokens and features. */
export function featuresRequest(prompt) {
  const model = $("models").hidden ? {} : { model: $("model").value };
  return { input: prompt, ...model, features: $("set").value, classifiers: [] };
}

function requests() {
  if ($("asked").value === "verdicts") return ["v1/classify", [verdictsRequest(prompts(), view.overflow)]];
  return ["v1/inspect", prompts().map(featuresRequest)];
}

async function copy(text, what) {
  $("copied").hidden = false;
  $("copied-text").textContent = text;
  let isCopied = true;
  try {
    await navigator.clipboard.writeText(text);
  } catch { // no permission, or the page came over plain HTTP
    getSelection().selectAllChildren($("copied-text"));
    isCopied = document.execCommand("copy");
  }
  $("copied-what").textContent = isCopied ? `${what} copied.` : `${what} selected: press Ctrl+C.`;
}

export function watchShare() {
  $("link").addEventListener("click", () => {
    $("link").setAttribute("href", here());
    ownHash = $("link").hash;
  });
  $("form").addEventListener("input", () => $("link").setAttribute("href", here()));
  $("copy-link").addEventListener("click", () => {
    const link = location.origin + here();
    const note = link.length > LONG ? ` It is ${link.length.toLocaleString("en")} characters long: some programs cut that.` : "";
    copy(link, "The link is").then(() => $("copied-what").append(note + " Whoever has it has the text."));
  });
  $("copy-curl").addEventListener("click", () => copy(curl(...requests()), "The command is"));
  $("copy-python").addEventListener("click", () => copy(python(...requests()), "The program is"));
}
