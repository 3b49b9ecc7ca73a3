// Something to begin with.

import { $, make } from "./dom.js";
import { fill } from "./state.js";

const CALM = "The boats came back before noon, and the market was set up along the harbour wall. ";
const CODE = "def median(xs):\n    xs = sorted(xs)\n    return xs[len(xs) // 2]";
const KIND = "Thank you for the careful review, this was a great help.";
const INSULT = "You are an idiot and nobody wants you here. Get lost!";

const EXAMPLES = {
  kind: { text: KIND },
  insult: { text: INSULT },
  "insult in a long text": { text: CALM.repeat(8) + INSULT + " " + CALM.repeat(8).trim() },
  code: { text: CODE },
  mathematics: { text: "Let G be a finite group and H a subgroup of index 2. Show that H is normal in G." },
  "two texts": { mode: "pair", text: "This is a good idea, let us try it.", other: "This is a stupid idea, you moron." },
  conversation: {
    mode: "conversation",
    messages: [
      { role: "system", content: "You help with the garden." },
      { role: "user", content: "When do I plant beans? And be quick, you useless machine." },
      { role: "assistant", content: "After the last frost, when the soil is warm: usually in May." },
    ],
  },
};

export function showExamples(run) {
  for (const [name, asked] of Object.entries(EXAMPLES)) {
    const button = make("button", { type: "button" }, name);
    button.addEventListener("click", () => { fill(asked); run(); });
    $("examples").append(button);
  }
}
