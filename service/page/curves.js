// The intrinsic dimension: over the layers, and as the context grows.

import { $ } from "./dom.js";
import { chart } from "./chart.js";
import { catalog } from "./service.js";
import { at, selection } from "./tokens.js";

const DIMENSION = "intrinsic_dimension";

let drawn = []; // of each text: its answer and both figures

/** Draw curves of one text or of two, on the same axes. */
export function showCurves(answers, titles) {
  const place = answers[0].feature_names.indexOf(DIMENSION);
  const ofToken = answers[0].token_feature_names.indexOf(DIMENSION);
  $("dimension").hidden = place < 0 || ofToken < 0;
  if ($("dimension").hidden) { drawn = []; return; }
  const overLayers = answers.map(({ values }) => values.map((layer) => layer[place]));
  const top = Math.max(...overLayers.flat());
  const axis = { y: "intrinsic dimension", unit: "attention weights", isWhole: true };
  drawn = answers.map((answer, i) => ({
    answer, ofToken, title: titles[i],
    layers: chart({ ...axis, title: `${titles[i]}over the layers`, x: "layer", xs: answer.layers, ys: overLayers[i], top }),
    context: chart({ ...axis, ...context(answer, ofToken, titles[i]) }),
  }));
  $("curves").replaceChildren(...drawn.map(({ layers }) => layers), ...drawn.map((one) => one.context));
  markCurves();
}

function context(answer, ofToken, title) {
  const { layer } = at();
  // Tokens of an encoder see all of the text: their place is no length of a context.
  const isEncoder = catalog.models.some(({ id, encoder }) => id === answer.model && encoder);
  const [by, xLabel] = isEncoder ? ["position", "position of the token"] : ["context length", "tokens of context"];
  return {
    title: `${title}by ${by}, layer ${answer.layers[layer]}`, x: "token", xLabel,
    xs: answer.tokens.map((_, i) => i + 1), ys: answer.tokens.map(({ values }) => values[layer][ofToken]),
  };
}

/** Follow the layer and the token that are chosen. */
export function markCurves() {
  const { layer } = at(), chosen = selection();
  const columns = drawn.map(({ answer, ofToken, title }) => context(answer, ofToken, title));
  const top = Math.max(0, ...columns.flatMap(({ ys }) => ys));
  drawn.forEach((one, i) => {
    one.layers.show({ here: layer });
    one.context.show({ ...columns[i], top, here: chosen?.which === i ? chosen.i : null });
  });
}
