// The page: from what is asked to what is shown. Each part of it is a file beside this one.

import { showCurves, markCurves } from "./curves.js";
import { $, duration, make } from "./dom.js";
import { isClosed, showDoor, watchDoor } from "./door.js";
import { showExamples } from "./examples.js";
import { clearFailure, fail, failTooLong } from "./failures.js";
import { showLayers, watchLayers } from "./layers.js";
import { asksForKey, call, catalog, keeper, loadCatalog } from "./service.js";
import { featuresRequest, follow, isOwn, watchShare } from "./share.js";
import { addMessage, choose, fill, mode, prompts, readFragment, setMode, view } from "./state.js";
import { showTokens, watchTokens } from "./tokens.js";
import { spoken, verdictsPanel, verdictsRequest } from "./verdicts.js";
import { showFirstMarks, wordsPanels } from "./words.js";

const DETAILS = ["heat", "dimension", "layers"];

let running = null; // what can stop the reading that is under way
let wanted = {}; // of the view, by a link: model, feature, layer, words

function state(now, said) {
  document.body.dataset.state = now;
  $("status").textContent = said;
}

function showDetails(areShown) {
  for (const id of DETAILS) $(id).hidden = !areShown;
}

function showModels() {
  const before = wanted.model ?? $("model").value;
  $("model").replaceChildren(...catalog.models.map(({ id }) => new Option(id)));
  choose($("model"), before);
  $("models").hidden = catalog.models.length < 2;
}

async function run({ overflow = null } = {}) {
  if (isClosed()) return;
  running?.abort();
  const control = running = new AbortController();
  view.overflow = overflow;
  clearFailure();
  state("reading", "Reading");
  $("results").hidden = false;
  $("toolbar").hidden = true;
  showDetails(false);
  $("judged").replaceChildren(make("section", { class: "panel waits" }, "Reading …"));
  try {
    await loadCatalog();
    showModels();
    const asked = prompts();
    const verdicts = catalog.classifiers.length
      ? call("classify", verdictsRequest(asked, overflow), control.signal)
      : Promise.resolve({ content: { data: asked.map(() => ({ verdicts: {} })), thresholds: {} } });
    const features = Promise.all(asked.map((prompt) => call("inspect", featuresRequest(prompt), control.signal)));
    features.catch(() => {}); // heard below
    const isJudged = await showVerdicts(asked, verdicts);
    await showFeatures(asked, features);
    follow();
    $("toolbar").hidden = false;
    if (isJudged) state("done", said());
    else state("failed", "");
  } catch (error) {
    if (error.name !== "AbortError") refuse(error);
  } finally {
    if (running === control) running = null;
  }
}

/** Whose each part is: nobody's that need be named, or one of two texts'. */
const named = (asked, name) => asked.length > 1 ? [`${name}, first text`, `${name}, second text`] : [name];

async function showVerdicts(asked, verdicts) {
  let content;
  try {
    ({ content } = await verdicts);
  } catch (error) {
    if (error.code !== "input_too_long") throw error;
    failTooLong(error, asked, run);
    $("judged").replaceChildren(make("section", { class: "panel waits" }, "No verdicts yet: see above."));
    return false;
  }
  const rows = content.data;
  const parts = asked.map((prompt, i) => prompt.messages
    ? prompt.messages.map((message, place) => {
      const k = spoken(prompt).findIndex((one) => one.place === place);
      return { title: `${message.role}, message ${place}`, text: message.content, row: rows[k + 1] ?? null };
    })
    : [{ title: "", text: prompt, row: rows[i] }]);
  const titles = mode() === "conversation" ? ["Verdicts on the conversation"] : named(asked, "Verdicts");
  $("judged").className = asked.length > 1 ? "row of-two" : "row";
  $("judged").replaceChildren(
    ...asked.map((_, i) => verdictsPanel(titles[i], content, rows[i])),
    ...wordsPanels(parts, named(asked, "Words"), wanted.words));
  showFirstMarks();
  state("verdicts", said());
  return true;
}

/** The verdicts in one line, for who does not see them. */
function said() {
  const one = (card) => `${card.dataset.classifier}: ${[...card.querySelectorAll(".badge")].map(({ textContent }) => textContent).join(", ")}`;
  return [...document.querySelectorAll(".verdicts")]
    .map((panel) => `${panel.getAttribute("aria-label")}: ${[...panel.querySelectorAll(".verdict")].map(one).join("; ")}`).join(". ");
}

async function showFeatures(asked, features) {
  const waiting = make("section", { class: "panel waits" }, "Reading tokens and features …");
  $("results").append(waiting);
  try {
    const answers = await features;
    const found = answers.map(({ content }) => content);
    showDetails(true);
    showTokens(found, asked, named(asked, "Tokens"), wanted);
    const of = asked.length > 1 ? ["First text: ", "Second text: "] : [""];
    showCurves(found, of);
    showLayers(found, of);
    const longest = (name) => duration(Math.max(...answers.map(({ headers }) => headers.get(name) ?? 0)));
    $("timing").textContent =
      `model ${longest("x-inference-ms")}, queue ${longest("x-queue-ms")}, in all ${longest("x-total-ms")}`;
    wanted = {};
  } catch (error) {
    if (error.code !== "input_too_long") throw error; // which the verdicts have told
  } finally {
    waiting.remove();
  }
}

function refuse(error) {
  $("judged").querySelector(".waits")?.remove();
  if (!$("judged").children.length) $("results").hidden = true;
  state("failed", "");
  if (error.isOfKey) {
    keeper.forget();
    $("results").hidden = true;
    return showDoor(true, "The service did not take the key.");
  }
  const again = () => run({ overflow: view.overflow });
  return fail(error.message, error.mayPass ? [["Try again", again]] : []);
}

function open() {
  const asked = location.hash ? readFragment(location.hash) : null;
  if (!asked) return false;
  wanted = Object.fromEntries(Object.entries(asked).filter(([, value]) => value !== null));
  run({ overflow: view.overflow });
  return true;
}

watchDoor(() => { if (!open()) $("text").focus(); }, () => { running?.abort(); $("results").hidden = true; });
watchTokens(() => { markCurves(); follow(); });
watchLayers();
watchShare();
showExamples(run);
$("form").addEventListener("submit", (event) => { event.preventDefault(); run(); });
$("form").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
  event.preventDefault();
  $("form").requestSubmit();
});
for (const one of document.querySelectorAll("input[name=mode]")) one.addEventListener("change", () => setMode(one.value));
$("add").addEventListener("click", () => addMessage({ role: "user", content: "" }).focus());
$("results").addEventListener("view", follow);
addEventListener("hashchange", () => { if (!isOwn()) open(); });
if (!location.hash) fill({}); // browsers put back what was in a form
if (!isClosed()) {
  if (!open() && !asksForKey) loadCatalog().then(showModels, () => {}); // told when it is needed
}
