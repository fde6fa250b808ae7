// What is pointed at, by pointer, finger or arrow keys, and what is told about it.
const tip = document.getElementById("tip"), ring = document.getElementById("ring");
let pointed = null;

function place(target) {
  const {kind, at} = target;
  const of = kind === "frontier" ? told.frontier : kind === "example" ? told.examples : told.dots;
  return [of.x[at], of.y[at]];
}

function describe({kind, at}) {
  if (kind === "frontier") {
    const line = row(at), head = factsOf(line);
    head.prepend(line.querySelector(".number").cloneNode(true), " ");
    return [head, line.querySelector(".p .prompt").cloneNode(true)];
  }
  const [x, y] = place({kind, at}), values = [number(y), number(x, 3), number(Math.exp(x), 3)];
  if (kind === "example") {
    const example = document.getElementById("example-" + told.examples.place[at]);
    return [facts(...values), example.querySelector(".prompt").cloneNode(true), made("p", "legend", "dataset example, alone as a dream is scored")];
  }
  const {tokens, iteration} = told.dots;
  return [facts(...values, String(iteration[at])), tokens ? boxes(tokens[at].map(token => told.texts[token])) : ""];
}

// The nearest thing within reach of a place in pixels: a frontier's point before an example before a dot.
function nearest(left, top, reach) {
  const {bbox} = view.frame;
  if (left < bbox.left || left > bbox.right || top < bbox.top || top > bbox.bottom) return null;
  const last = Number(slider.value) >= told.iterations;
  const kinds = [["frontier", last ? told.frontier : {x: []}, 12, Infinity], ["example", told.examples || {x: []}, 9, Infinity], ["dot", told.dots, 7, seen]];
  for (const [kind, {x, y}, radius, stop] of kinds) {
    let best = null, least = radius * reach;
    for (let at = 0; at < Math.min(x.length, stop); at++) {
      if (x[at] === null || y[at] === null) continue;
      const [a, b] = pixel(x[at], y[at]), far = Math.hypot(a - left, b - top);
      if (far < least) [best, least] = [{kind, at}, far];
    }
    if (best) return best;
  }
  return null;
}

function hide() {
  pointed = null;
  tip.hidden = ring.hidden = true;
}

function point(target) {
  pointed = target;
  const [left, top] = pixel(...place(target)), {bbox} = view.frame;
  if (left < bbox.left - 1 || left > bbox.right + 1 || top < bbox.top - 1 || top > bbox.bottom + 1) return hide();
  ring.style.translate = `${left}px ${top}px`;
  tip.replaceChildren(...describe(target));
  tip.hidden = ring.hidden = false;
  // Above its point where there is room, else below it; never over it, and never out of the window.
  const room = surface.clientWidth, {offsetWidth: width, offsetHeight: height} = tip;
  const above = top - height - 14, edge = surface.getBoundingClientRect().top;
  tip.style.left = `${Math.max(Math.min(left - width / 2, room - width), 0)}px`;
  tip.style.top = `${edge + above > 4 ? above : top + 14}px`;
}

function step(by) {
  const rows = told.frontier.x.map((_, at) => at).filter(at => told.frontier.x[at] !== null && told.frontier.y[at] !== null);
  if (!rows.length) return;
  const now = pointed && pointed.kind === "frontier" ? rows.indexOf(pointed.at) : pinned === null ? -1 : rows.indexOf(pinned);
  const next = by === "first" ? 0 : by === "last" ? rows.length - 1 : now < 0 ? (by > 0 ? 0 : rows.length - 1) : Math.min(Math.max(now + by, 0), rows.length - 1);
  const target = {kind: "frontier", at: rows[next]};
  point(target);
  const line = row(target.at);
  document.getElementById("said").textContent =
    `Prompt ${target.at + 1} of ${told.frontier.x.length}: feature ${line.dataset.feature}, ${line.dataset.nats} nats per token: ${line.dataset.text}`;
}

function startPoint() {
  const where = event => {
    const edge = surface.getBoundingClientRect();
    return [event.clientX - edge.left, event.clientY - edge.top];
  };
  surface.addEventListener("pointermove", event => {
    if (event.buttons && event.pointerType !== "touch") return hide();
    if (event.pointerType === "touch") return;
    const target = nearest(...where(event), 1);
    surface.classList.toggle("pinning", Boolean(target && target.kind === "frontier"));
    if (!target) hide();
    else if (!pointed || pointed.kind !== target.kind || pointed.at !== target.at) point(target);
  });
  surface.addEventListener("pointerleave", event => {
    if (event.pointerType !== "touch") hide();
  });
  surface.addEventListener("click", event => {
    if (surface.dataset.dragged) return;
    const target = nearest(...where(event), event.pointerType === "touch" ? 2 : 1);
    if (!target) hide();
    else point(target);
    if (target && target.kind === "frontier") pin(target.at);
  });
  surface.addEventListener("blur", hide);
  const keys = {ArrowRight: () => step(1), ArrowLeft: () => step(-1), Home: () => step("first"), End: () => step("last"),
    "+": () => zoom(1 / 1.5), "-": () => zoom(1.5), "0": home,
    Enter: () => pointed && pointed.kind === "frontier" && pin(pointed.at)};
  surface.addEventListener("keydown", event => {
    if (!(event.key in keys) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    keys[event.key]();
  });
  document.addEventListener("viewchange", hide);
}
