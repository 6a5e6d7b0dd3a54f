// Curves that grow: an SVG for each facet of `state`, drawn anew when it changes. The legend has the newest values,
// or those of the step under the pointer.
const WIDTH = 264, HEIGHT = 170, LEFT = 48, RIGHT = 8, TOP = 8, BOTTOM = 22;

function svg(parent, name, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return parent.appendChild(made);
}

function html(parent, name, className, text) {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text;
  return parent.appendChild(made);
}

function short(value) {
  const size = Math.abs(value);
  if (size >= 1e4) return `${+(value / 1000).toPrecision(3)}k`;
  return size > 0 && size < 1e-3 ? value.toExponential(2).replace(/\.?0*e/, "e") : `${+value.toPrecision(3)}`;
}

// Round numbers of a range: at least two of them; of a logarithmic one 1, 2 and 5 of each decade, or the decades.
function ticks(low, high, log) {
  if (log) {
    for (const digits of [[1], [1, 2, 5]]) {
      const found = [];
      for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++)
        found.push(...digits.map((digit) => digit * 10 ** power).filter((value) => value >= low && value <= high));
      if (found.length > 2) return found;
    }
  }
  const rough = (high - low) / 4, unit = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((digit) => digit * unit).find((value) => value >= rough);
  const found = [];
  for (let number = Math.ceil(low / step); number * step <= high + step * 1e-9; number++) found.push(number * step);
  return found;
}

function scales(facet) {
  const points = facet.lines.flatMap((line) => [...line.training, ...line.held_out]);
  const span = (values) => [Math.min(...values), Math.max(...values)];
  const [first, last] = span(points.map((point) => point[0]));
  let [low, high] = span(points.map((point) => point[1]));
  if (low === high) [low, high] = [low - (Math.abs(low) / 10 || 1), high + (Math.abs(high) / 10 || 1)];
  const value = facet.log ? Math.log : (y) => y, room = 0.06 * (value(high) - value(low));
  const [bottom, top] = [value(low) - room, value(high) + room];
  return {
    low, high, first, last,
    x: (step) => LEFT + ((WIDTH - LEFT - RIGHT) * (step - first)) / (last - first || 1),
    y: (y) => HEIGHT - BOTTOM - ((HEIGHT - TOP - BOTTOM) * (value(y) - bottom)) / (top - bottom),
    step: (x) => first + ((x - LEFT) / (WIDTH - LEFT - RIGHT)) * (last - first),
  };
}

const path = (points, at) => points.map(([x, y], n) => `${n ? "L" : "M"}${at.x(x).toFixed(1)} ${at.y(y).toFixed(1)}`).join("");

function nearest(points, step) {
  return points.reduce((best, point) => (best && Math.abs(best[0] - step) <= Math.abs(point[0] - step) ? best : point), undefined);
}

function drawn(facet, pointed, seen) {
  const figure = document.createElement("figure");
  const title = html(figure, "figcaption", "", facet.title + (facet.log ? ", log axis" : ""));
  const legend = html(figure, "div", "bistil-legend", "");
  if (!facet.lines.some((line) => line.training.length + line.held_out.length)) return figure;
  const at = scales(facet);
  const plot = svg(figure, "svg", { width: WIDTH, height: HEIGHT, role: "img" });
  for (const value of ticks(at.low, at.high, facet.log)) {
    svg(plot, "line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: at.y(value), y2: at.y(value) });
    svg(plot, "text", { x: LEFT - 6, y: at.y(value) + 4, "text-anchor": "end" }, short(value));
  }
  const ends = ticks(at.first, at.last, false).filter((step) => Number.isInteger(step));
  for (const step of ends) svg(plot, "text", { x: at.x(step), y: HEIGHT - 6, "text-anchor": "middle" }, short(step));
  for (const line of facet.lines) {
    svg(plot, "path", { d: path(line.training, at), stroke: line.colour, "stroke-width": 1.4, fill: "none" });
    svg(plot, "path", { d: path(line.held_out, at), stroke: line.colour, "stroke-width": 2, fill: "none" });
    for (const [x, y] of line.held_out) svg(plot, "circle", { cx: at.x(x), cy: at.y(y), r: 3, fill: line.colour });
  }
  const marks = svg(plot, "g", {});
  const show = (x) => {
    const step = x === undefined ? Infinity : at.step(x);
    const told = facet.lines.flatMap((line) => [...line.training, ...line.held_out]);
    const near = x === undefined ? at.last : nearest(told, step)[0];
    marks.replaceChildren();
    legend.replaceChildren();
    html(legend, "span", "bistil-step", `step ${near}`);
    if (x !== undefined) svg(marks, "line", { class: "pointed", x1: at.x(near), x2: at.x(near), y1: TOP, y2: HEIGHT - BOTTOM });
    for (const line of facet.lines) {
      const own = nearest(line.training, near), other = nearest(line.held_out, near), values = [];
      if (own) values.push(short(own[1]));
      if (other) values.push(`${own ? "held out " : ""}${short(other[1])}`);
      if (!values.length) continue;
      const entry = html(legend, "span", "", `${facet.lines.length > 1 ? line.name + " " : ""}${values.join(", ")}`);
      entry.style.setProperty("--colour", line.colour);
      if (own && x !== undefined) svg(marks, "circle", { cx: at.x(own[0]), cy: at.y(own[1]), r: 3.5, fill: line.colour });
    }
    plot.setAttribute("aria-label", `${title.textContent}: ${legend.textContent}`);
  };
  plot.addEventListener("pointermove", (event) => {
    seen(Math.min(Math.max(event.offsetX, LEFT), WIDTH - RIGHT));
    show(Math.min(Math.max(event.offsetX, LEFT), WIDTH - RIGHT));
  });
  plot.addEventListener("pointerleave", () => { seen(undefined); show(undefined); });
  show(pointed);
  return figure;
}

function render({ model, el }) {
  const pointed = {};
  const draw = () => {
    const { title, facets, at } = model.get("state");
    el.replaceChildren();
    el.classList.add("bistil-curves");
    if (!facets || !facets.length) return;
    html(el, "p", "", `${title}: over optimiser steps; thin lines: training, lines with marks: held-out data.`);
    const row = html(el, "div", "bistil-facets", "");
    for (const facet of facets)
      row.append(drawn(facet, pointed[facet.title], (x) => { pointed[facet.title] = x; }));
    el.dataset.at = at;
  };
  model.on("change:state", draw);
  draw();
}

export default { render };
