// Verdicts of classifiers: one request for all of them, and a card for each.

import { make, percent, plural } from "./dom.js";
import { catalog } from "./service.js";

/** Body of the one request: every classifier, on every text. Of a conversation also every message. */
export function verdictsRequest(prompts, overflow) {
  const inputs = prompts.flatMap((prompt) => [prompt, ...spoken(prompt).map(({ content }) => content)]);
  return {
    input: inputs.length === 1 ? inputs[0] : inputs,
    classifier: catalog.classifiers.map((card) => card.id),
    spans: "available",
    ...(overflow && { overflow }),
  };
}

/** Messages of a conversation that say something, each with its place. */
export function spoken(prompt) {
  return (prompt.messages ?? [])
    .map(({ role, content }, place) => ({ role, content, place }))
    .filter(({ content }) => content.trim());
}

const isHarmful = (card, label) =>
  card.kind === "multilabel" || (card.kind === "binary" && label === card.classes[1]);

/** Classes that a row says are there, and that somebody may want to know the place of. */
export function found(card, row) {
  return card.kind === "multiclass" ? row.labels : row.labels.filter((label) => isHarmful(card, label));
}

function badges(card, row) {
  const line = make("span");
  if (row.decided_by === "person") line.append(make("span", { class: "badge" }, "left to a person"));
  else {
    for (const label of row.labels.length ? row.labels : ["none"]) {
      const tone = card.kind === "multiclass" ? "" : row.labels.length && isHarmful(card, label) ? " bad" : " good";
      line.append(make("span", { class: "badge" + tone }, label), " ");
    }
  }
  return line;
}

function bar(name, share, limit, isFlagged) {
  const fill = make("span", { class: "fill" });
  fill.style.setProperty("--share", 100 * share + "%");
  const track = make("span", { class: "track" }, fill);
  if (limit !== undefined) {
    const mark = make("span", { class: "limit", title: "threshold " + percent(limit) });
    mark.style.setProperty("--at", `calc(${100 * limit}% - 1px)`);
    track.append(mark);
  }
  const told = limit === undefined ? "" : `, threshold ${percent(limit)}`;
  return make("li", { class: isFlagged ? "flagged" : "" },
    make("span", { class: "name", title: name }, name), track,
    make("span", { class: "number" }, percent(share), make("span", { class: "hidden" }, told)));
}

function card(known, row, thresholds) {
  const box = make("article", { class: "verdict", data: { classifier: known.id } });
  box.append(make("div", { class: "head" }, make("h3", {}, known.id), badges(known, row)));
  const bars = make("ul", { class: "bars" });
  const names = known.kind === "binary" ? known.classes.slice(1) : [...known.classes];
  let rest = [];
  if (known.kind === "multiclass") {
    names.sort((a, b) => row.probabilities[b] - row.probabilities[a]);
    rest = names.splice(3);
  }
  const line = (name) => {
    const limit = known.kind === "multiclass" ? undefined : thresholds[name] ?? 0.5;
    return bar(name, row.probabilities[name], limit, isHarmful(known, name) && row.labels.includes(name));
  };
  bars.append(...names.map(line));
  box.append(bars);
  if (rest.length) {
    const more = make("ul", { class: "bars" });
    more.append(...rest.map(line));
    box.append(make("details", {}, make("summary", {}, plural(rest.length, "less probable class", "less probable classes")), more));
  }
  if (row.truncated) box.append(make("p", { class: "soft small" }, "The end was not read."));
  if (row.windows > 1) box.append(make("p", { class: "soft small" }, `Read in ${row.windows} overlapping windows.`));
  if (row.decided_by && row.decided_by !== known.id) {
    box.append(make("p", { class: "soft small" }, `Decided by ${row.decided_by}.`));
  }
  if (known.weaknesses.length) {
    box.append(make("details", {}, make("summary", {}, "What it gets wrong"),
      make("ul", {}, ...known.weaknesses.map((text) => make("li", {}, text)))));
  }
  return box;
}

/** A panel with a card for each classifier. */
export function verdictsPanel(title, answer, row) {
  const head = make("h2", {}, title);
  const panel = make("section", { class: "panel verdicts", "aria-label": title }, make("div", { class: "head" }, head));
  const cards = catalog.classifiers.map((known) => card(known, row.verdicts[known.id], answer.thresholds[known.id]));
  panel.append(make("div", { class: "cards" }, ...cards));
  if (!catalog.classifiers.length) panel.append(make("p", { class: "soft" }, "No classifier is loaded."));
  if (catalog.unasked.length) {
    const names = catalog.unasked.map(({ id, provenance }) => `${id} (count ${provenance.count})`).join(", ");
    panel.append(make("p", { class: "soft small" }, `Not asked here, as they judge conversations alone: ${names}.`));
  }
  return panel;
}
