// The frontier as it was after each iteration.
const slider = document.getElementById("iteration");
// How many dots are seen, those of the iterations so far.
let seen = 0;

function frontierAt(iteration) {
  let found = [];
  for (const [since, dots] of told.moments) if (since <= iteration) found = dots;
  const {x, y} = told.dots;
  return {x: found.map(at => x[at]), y: found.map(at => y[at])};
}

function show(iteration) {
  const {dots, frontier} = told, now = colours(), last = iteration >= told.iterations;
  seen = dots.iteration.findIndex(one => one > iteration);
  if (seen < 0) seen = dots.iteration.length;
  parts["dots-data"].data = {x: dots.x.slice(0, seen), y: dots.y.slice(0, seen), iteration: dots.iteration.slice(0, seen)};
  const rows = frontier.x.map((_, at) => at).filter(at => frontier.x[at] !== null && frontier.y[at] !== null);
  const line = last ? {x: rows.map(at => frontier.x[at]), y: rows.map(at => frontier.y[at])} : frontierAt(iteration);
  const best = at => at === frontier.overall || at === frontier.fluent;
  const colour = at => (at === frontier.overall ? now.overall : at === frontier.fluent ? now.fluent : now.line);
  parts["line-data"].data = line;
  parts["points-data"].data = last
    ? {...line, colour: rows.map(colour), size: rows.map(at => (best(at) ? 13 : 9))}
    : {...line, colour: line.x.map(() => now.line), size: line.x.map(() => 7)};
  const early = told.landmarks.filter(one => one < iteration).map(one => [one, frontierAt(one)]);
  parts["early-data"].data = {xs: early.map(([, one]) => one.x), ys: early.map(([, one]) => one.y)};
  // Each is named at its last point in the first view; those that end alike share the place.
  const within = (value, [low, high]) => value >= low && value <= high;
  const named = [];
  for (const [name, {x, y}] of early) {
    const at = x.findLastIndex((one, at) => within(one, told.view.x) && within(y[at], told.view.y));
    if (at < 0) continue;
    const there = named.find(one => one.x === x[at] && one.y === y[at]);
    if (there) there.text += `, ${name}`;
    else named.push({x: x[at], y: y[at], text: String(name)});
  }
  parts["names-data"].data = Object.fromEntries(["x", "y", "text"].map(name => [name, named.map(one => one[name])]));
  const prompts = `${line.x.length} ${line.x.length === 1 ? "prompt" : "prompts"} on the frontier`;
  const highest = line.x.length ? `, the best ${number(line.y.at(-1))}` : "";
  slider.setAttribute("aria-valuetext", `${iteration} of ${told.iterations}: ${prompts}${highest}`);
  document.getElementById("moment").textContent = `${iteration} of ${told.iterations} \u00b7 ${prompts}${highest}`;
}

// The last frontier has its surroundings to itself; the earlier ones may reach far out of them.
function reset() {
  const part = Number(slider.value) < told.iterations ? told.wide : told.view;
  look(part.x, part.y);
}

function startEvolution() {
  const play = document.getElementById("play"), still = matchMedia("(prefers-reduced-motion: reduce)");
  let timer = 0;

  function move(iteration) {
    slider.value = iteration;
    if (!chosen) reset();
    show(iteration);
  }

  function stop() {
    clearInterval(timer);
    timer = 0;
    play.textContent = "Play";
  }

  slider.max = slider.value = told.iterations;
  slider.addEventListener("input", () => {
    stop();
    move(Number(slider.value));
  });
  play.addEventListener("click", () => {
    if (timer) return stop();
    // Who asked for little motion gets ten still pictures.
    const step = Math.max(Math.ceil(told.iterations / (still.matches ? 10 : 150)), 1);
    if (Number(slider.value) >= told.iterations) move(0);
    play.textContent = "Pause";
    timer = setInterval(() => {
      move(Math.min(Number(slider.value) + step, told.iterations));
      if (Number(slider.value) >= told.iterations) stop();
    }, still.matches ? 1500 : 80);
  });
  document.getElementById("evolution").hidden = told.iterations === 0;
  show(told.iterations);
}
