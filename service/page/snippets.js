// What the page asks, as something to paste: a command of curl, a program in Python.

import { address, asksForKey } from "./service.js";

// Characters that nobody sees, or that turn what is around them.
const UNSEEN = /[\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff\ufff0-\uffff\u{e0000}-\u{e0fff}]/gu;
const hex = (code, length) => code.toString(16).padStart(length, "0");

const inJSON = (one) => [...Array(one.length).keys()].map((i) => "\\u" + hex(one.charCodeAt(i), 4)).join("");
// In Python two halves of a pair would stay two.
const inPython = (one) => one.length > 1 ? "\\U" + hex(one.codePointAt(0), 8) : inJSON(one);

const written = (body, escape, indent) => JSON.stringify(body, null, indent).replace(UNSEEN, escape);

/**
 * Commands for sh. The body is a here-document, in which nothing is special to a shell, and none of
 * whose lines can end it: line breaks within a text are written as \n.
 */
export function curl(path, bodies) {
  const key = asksForKey ? ' \\\n  -H "Authorization: Bearer $SPLINELLM_KEY"' : "";
  return bodies.map((body) =>
    `curl -sS '${address(path)}' -H 'Content-Type: application/json'${key} --data-binary @- <<'END'\n` +
    `${written(body, inJSON, 1)}\nEND\n`).join("\n");
}

/** A program that needs nothing but Python. Texts are written alike in JSON and in Python. */
export function python(path, bodies) {
  const key = asksForKey ? ', "Authorization": "Bearer " + os.environ["SPLINELLM_KEY"]' : "";
  const literals = bodies.map((body) => written(body, inPython, 4));
  const list = literals.map((literal) => literal.replaceAll(/^/gm, "    ") + ",\n").join("");
  return `import json${asksForKey ? "\nimport os" : ""}
import urllib.request

for body in [
${list}]:
    request = urllib.request.Request(
        "${address(path)}",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"${key}},
    )
    with urllib.request.urlopen(request) as answer:
        print(json.dumps(json.load(answer), indent=2))
`;
}
