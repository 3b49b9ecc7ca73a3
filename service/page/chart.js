// A curve with axes, drawn at the width that there is so that its letters keep their size.

import { make, number, short } from "./dom.js";

const HEIGHT = 220;
const EDGES = { left: 52, right: 14, top: 22, bottom: 40 };
const NAMESPACE = "http://www.w3.org/2000/svg";

function svg(tag, attributes = {}, text) {
  const element = document.createElementNS(NAMESPACE, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

/** Round numbers from low to high, as many as `most` allows; whole ones if `isWhole`. */
export function ticks(low, high, most, isWhole = false) {
  const rough = (high - low) / most || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  // What is rough may round up to twice as much; where a finer step still fits, one tick is too few.
  const found = [0.5, 1, 2, 5, 10].map((n) => multiples(low, high, isWhole ? Math.max(1, Math.round(n * power)) : n * power));
  return found.find((one) => one.length <= most) ?? found.at(-1);
}

function multiples(low, high, step) {
  const found = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k++) found.push(k * step || 0); // not -0
  return found;
}

/**
 * A figure. `spec` has title, x and y (each a label), xs and ys (numbers, ys from 0 on), `top` (the
 * largest number that the axis shows), and `here`, the place of xs that is marked.
 */
export function chart(spec) {
  const figure = make("figure");
  const value = make("p", { class: "value" });
  const plot = make("div");
  figure.append(make("figcaption", {}, spec.title), plot, value);
  let now = spec;
  const redraw = () => plot.replaceChildren(draw(now, Math.max(240, plot.clientWidth || 480)));
  plot.addEventListener("pointermove", (event) => {
    const inside = event.clientX - plot.getBoundingClientRect().left - EDGES.left;
    const width = plot.clientWidth - EDGES.left - EDGES.right;
    const place = Math.round((inside / width) * (now.xs.length - 1));
    value.textContent = tell(now, Math.min(now.xs.length - 1, Math.max(0, place)));
  });
  const rest = () => { value.textContent = now.here === null || now.here === undefined ? "" : tell(now, now.here); };
  plot.addEventListener("pointerleave", rest);
  let width = 0;
  new ResizeObserver(() => {
    if (plot.clientWidth !== width) { width = plot.clientWidth; redraw(); }
  }).observe(plot);
  figure.show = (changes) => {
    now = { ...now, ...changes };
    figure.querySelector("figcaption").textContent = now.title;
    redraw();
    rest();
  };
  figure.show({});
  return figure;
}

const tell = ({ x, xs, ys, unit }, i) => `${x} ${number(xs[i])}: ${short(ys[i])} ${unit}`;

function summary({ title, x, y, xs, ys }) {
  const most = ys.indexOf(Math.max(...ys)), least = ys.indexOf(Math.min(...ys));
  return `${title}. ${x} ${number(xs[0])} to ${number(xs.at(-1))}; ${y}: first ${short(ys[0])}, last ${short(ys.at(-1))}, ` +
    `most ${short(ys[most])} at ${x} ${number(xs[most])}, least ${short(ys[least])} at ${x} ${number(xs[least])}.`;
}

function draw(spec, width) {
  const { xs, ys, here } = spec;
  const top = Math.max(spec.top ?? 0, ...ys) || 1;
  const inner = { width: width - EDGES.left - EDGES.right, height: HEIGHT - EDGES.top - EDGES.bottom };
  const first = xs[0], last = xs.at(-1);
  const right = (value) => EDGES.left + (last > first ? (value - first) / (last - first) : 0.5) * inner.width;
  const up = (value) => EDGES.top + (1 - value / top) * inner.height;
  const picture = svg("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, width, height: HEIGHT, role: "img", "aria-label": summary(spec) });
  for (const value of ticks(0, top, 5, spec.isWhole)) {
    picture.append(
      svg("line", { class: "grid", x1: EDGES.left, x2: width - EDGES.right, y1: up(value), y2: up(value) }),
      svg("text", { x: EDGES.left - 6, y: up(value) + 4, "text-anchor": "end" }, number(value)));
  }
  for (const value of ticks(first, last, Math.max(2, Math.floor(inner.width / 70)), true)) {
    picture.append(
      svg("line", { class: "axis", x1: right(value), x2: right(value), y1: up(0), y2: up(0) + 4 }),
      svg("text", { x: right(value), y: up(0) + 17, "text-anchor": "middle" }, number(value)));
  }
  picture.append(
    svg("line", { class: "axis", x1: EDGES.left, x2: width - EDGES.right, y1: up(0), y2: up(0) }),
    svg("line", { class: "axis", x1: EDGES.left, x2: EDGES.left, y1: EDGES.top, y2: up(0) }),
    svg("text", { x: EDGES.left + inner.width / 2, y: HEIGHT - 6, "text-anchor": "middle" }, spec.xLabel ?? spec.x),
    svg("text", { x: 2, y: 12 }, spec.y));
  if (here !== null && here !== undefined) {
    picture.append(svg("line", { class: "here", x1: right(xs[here]), x2: right(xs[here]), y1: EDGES.top, y2: up(0) }));
  }
  picture.append(svg("polyline", { class: "curve", points: ys.map((value, i) => `${right(xs[i]).toFixed(1)},${up(value).toFixed(1)}`).join(" ") }));
  if (ys.length <= 40) for (const [i, value] of ys.entries()) picture.append(svg("circle", { class: "dot", cx: right(xs[i]), cy: up(value), r: 2.5 }));
  return picture;
}
