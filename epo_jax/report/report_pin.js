// One prompt that stays in sight, and in the address of the page.
const panel = document.getElementById("pinned");
let pinned = null, before = null;

function attribution(at) {
  const found = document.getElementById("drops-of-" + (at + 1));
  if (!found) return made("p", "legend", "Which of its tokens matter was not tried.");
  const strip = found.querySelector(".strip").cloneNode(true);
  // Two elements of one name would leave the second without its description.
  for (const token of strip.querySelectorAll(".token")) {
    const [button, about] = token.children;
    button.setAttribute("aria-describedby", about.id = about.id + "-pinned");
  }
  return made("div", "drops", made("h3", "", "Which tokens matter"), strip);
}

function pin(at, focus = false) {
  const line = row(at), head = panel.querySelector("h2"), badge = line.querySelector(".number").cloneNode(true);
  unmark();
  pinned = at;
  line.classList.add("pinned");
  line.setAttribute("aria-current", "true");
  head.replaceChildren("Pinned ", badge);
  badge.removeAttribute("aria-label");
  const about = [made("p", "say", line.querySelector(".p .prompt").cloneNode(true)), factsOf(line)];
  const goes = line.querySelector(".c .prompt");
  if (goes) about.push(made("p", "goes", made("span", "legend", "The model goes on: "), goes.cloneNode(true)));
  document.getElementById("about").replaceChildren(...about, attribution(at));
  panel.hidden = false;
  document.getElementById("said").textContent = `Prompt ${at + 1} is pinned.`;
  history.replaceState(null, "", "#prompt-" + (at + 1));
  mark();
  if (focus) {
    before = document.activeElement;
    head.focus();
    panel.scrollIntoView({block: "nearest"});
  }
}

function unmark() {
  for (const line of document.querySelectorAll("tr.pinned")) {
    line.classList.remove("pinned");
    line.removeAttribute("aria-current");
  }
}

function unpin() {
  if (pinned === null) return;
  unmark();
  pinned = null;
  panel.hidden = true;
  history.replaceState(null, "", location.pathname + location.search);
  mark();
  if (before) before.focus();
  before = null;
}

// The ring around its point in the plot, where there is a plot.
function mark() {
  if (!plot) return;
  const {x, y} = told.frontier, known = pinned !== null && x[pinned] !== null && y[pinned] !== null;
  parts["pinned-data"].data = known ? {x: [x[pinned]], y: [y[pinned]]} : {x: [], y: []};
}

function pinAddressed() {
  const found = /^#prompt-([1-9][0-9]*)$/.exec(location.hash);
  if (found && row(Number(found[1]) - 1)) pin(Number(found[1]) - 1, true);
}

function startPins() {
  for (const link of document.querySelectorAll("a.number")) {
    link.addEventListener("click", event => {
      event.preventDefault();
      pin(Number(link.textContent) - 1, true);
    });
  }
  document.getElementById("unpin").addEventListener("click", unpin);
  document.addEventListener("keydown", event => {
    if (event.key !== "Escape") return;
    if (!tip.hidden) hide();
    else unpin();
  });
  addEventListener("hashchange", pinAddressed);
  pinAddressed();
}
