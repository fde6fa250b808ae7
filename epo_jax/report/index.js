"use strict";
// Rows are drawn some at a time, so that ten thousand of them are as quick as a hundred.
const PAGE = 200;
const rows = JSON.parse(document.getElementById("data").textContent);
const body = document.getElementById("rows"), more = document.getElementById("more");
const filter = document.getElementById("filter"), failed = document.getElementById("failed");
const count = document.getElementById("count"), seeds = body.dataset.seeds === "1";
const texts = rows.map(row => (row[1] + "\n" + row[5] + "\n" + row[8] + "\n" + row[10]).toLowerCase());
let order = rows.map((_, at) => at), found = [], shown = 0, column = 0, down = false;

function cell(line, kind, text, name) {
  const made = document.createElement("td");
  made.className = kind;
  made.textContent = text;
  if (name) made.dataset.name = name;
  line.append(made);
  return made;
}

function number(value, digits) {
  return value === null ? "" : value.toLocaleString("en", {maximumFractionDigits: digits, minimumFractionDigits: digits});
}

function drawn(row) {
  const line = document.createElement("tr");
  cell(line, "v n", row[0]);
  const feature = cell(line, "f", row[11] ? "" : row[1]);
  if (row[11]) {
    const link = document.createElement("a");
    link.href = row[11].split("/").map(encodeURIComponent).join("/");
    link.textContent = row[1];
    feature.append(link);
  }
  if (seeds) cell(line, "v", row[2], "seed");
  if (row[10]) {
    cell(line, "error", row[10]).colSpan = 7;
    return line;
  }
  cell(line, "v", number(row[6], 3), "best below " + body.dataset.limit);
  cell(line, "v", number(row[7], 2), "nats/token");
  cell(line, "p", row[8]);
  cell(line, "v", number(row[3], 3), "best");
  cell(line, "v", number(row[4], 2), "nats/token");
  cell(line, "p", row[5]);
  cell(line, "v", number(row[9], 0), "frontier");
  return line;
}

function grow() {
  const part = document.createDocumentFragment(), stop = Math.min(shown + PAGE, found.length);
  for (; shown < stop; shown++) part.append(drawn(rows[found[shown]]));
  body.append(part);
  more.hidden = shown === found.length;
}

function draw() {
  const words = filter.value.toLowerCase().split(" ").filter(word => word);
  found = order.filter(at => (!failed.checked || rows[at][10]) && words.every(word => texts[at].includes(word)));
  count.textContent = found.length === rows.length ? "" : found.length.toLocaleString("en") + " of " + rows.length.toLocaleString("en");
  body.replaceChildren();
  shown = 0;
  grow();
}

function sort() {
  const sign = down ? -1 : 1, names = new Intl.Collator("en", {numeric: true});
  // What a row lacks comes last, whichever way it goes.
  const lacks = value => value === null || value === "";
  order.sort((a, b) => {
    const x = rows[a][column], y = rows[b][column];
    if (lacks(x) || lacks(y)) return lacks(x) - lacks(y) || a - b;
    return sign * (typeof x === "number" ? x - y : names.compare(x, y)) || a - b;
  });
  for (const head of document.querySelectorAll("th")) {
    const own = Number(head.firstElementChild.dataset.column) === column;
    if (own) head.setAttribute("aria-sort", down ? "descending" : "ascending");
    else head.removeAttribute("aria-sort");
  }
  draw();
}

for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => {
    const chosen = Number(button.dataset.column);
    down = chosen === column ? !down : [3, 6, 9].includes(chosen);
    column = chosen;
    sort();
  });
}
filter.addEventListener("input", draw);
failed.addEventListener("change", draw);
more.addEventListener("click", grow);
addEventListener("scroll", () => {
  if (!more.hidden && more.getBoundingClientRect().top < innerHeight + 600) grow();
}, {passive: true});
sort();
