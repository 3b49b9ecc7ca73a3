// What went wrong, in one sentence, and the way out as a button.

import { $, make, number } from "./dom.js";
import { catalog } from "./service.js";

export function clearFailure() {
  $("failure").hidden = true;
  $("failure").replaceChildren();
}

/** Show a sentence; each of `ways` is a button's words and what it does. */
export function fail(sentence, ways = []) {
  $("failure").replaceChildren(make("span", {}, sentence));
  for (const [label, act] of ways) {
    const button = make("button", { type: "button" }, label);
    button.addEventListener("click", act);
    $("failure").append(button);
  }
  $("failure").hidden = false;
}

const size = (text) => Array.from(text).length;

/** Show why a text was too long, and how it can be read all the same. */
export function failTooLong(error, prompts, run) {
  const most = catalog.models[0].limits.max_input_chars;
  const boxes = [["text", prompts.length > 1 ? "The first text" : "The text"], ["other", "The second text"]];
  for (const [i, prompt] of prompts.entries()) {
    if (prompt.messages) {
      const all = prompt.messages.reduce((sum, { content }) => sum + size(content), 0);
      if (all > most) {
        return fail(`The conversation has ${number(all)} characters, and the service reads ${number(most)} at most: remove messages, or shorten them.`);
      }
    } else if (size(prompt) > most) {
      const [id, name] = boxes[i];
      return fail(`${name} has ${number(size(prompt))} characters, and the service reads ${number(most)} at most.`, [
        [`Read its first ${number(most)}`, () => {
          $(id).value = Array.from($(id).value).slice(0, most).join("");
          run({ overflow: "window" });
        }],
      ]);
    }
  }
  const [, n, limit] = error.message.match(/has (\d+) tokens, but the limit is (\d+)/) ?? [];
  const sizes = n ? `${number(Number(n))} tokens, and a verdict is made of ${number(Number(limit))} at most` : "more tokens than a verdict is made of";
  return fail(`The text has ${sizes}, unless it is read in parts.`, [
    ["Read all of it, in windows", () => run({ overflow: "window" })],
    ["Read its beginning", () => run({ overflow: "truncate" })],
  ]);
}
