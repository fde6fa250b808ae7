// The table: sorted by its heads, and copied.
const table = document.getElementById("frontier");

function value(line, column) {
  const text = line.cells[column].dataset.value;
  return line.parentElement && table.tHead.rows[0].cells[column].dataset.kind === "number" ? Number(text) : text;
}

function sortBy(column, down) {
  const names = new Intl.Collator("en", {numeric: true}), sign = down ? -1 : 1;
  const lacks = one => one === "" || Number.isNaN(one);
  const lines = [...table.tBodies[0].rows].map(line => [value(line, column), line]);
  // What a row lacks comes last, whichever way it goes.
  lines.sort(([a], [b]) => lacks(a) || lacks(b) ? lacks(a) - lacks(b) : sign * (typeof a === "number" ? Math.sign(a - b) || 0 : names.compare(a, b)));
  table.tBodies[0].append(...lines.map(([, line]) => line));
  for (const head of table.tHead.rows[0].cells) {
    if (head.cellIndex === column) head.setAttribute("aria-sort", down ? "descending" : "ascending");
    else head.removeAttribute("aria-sort");
  }
}

// Puts a text on the clipboard, and says in place of the button's own words whether that went well.
async function copy(text, button) {
  let outcome = "Copied";
  if (!navigator.clipboard) {
    outcome = "No clipboard here";
  } else {
    try {
      await navigator.clipboard.writeText(text);
    } catch (error) {
      if (!(error instanceof DOMException) || error.name !== "NotAllowedError") throw error;
      outcome = "Not allowed";
    }
  }
  const words = button.dataset.words;
  button.textContent = outcome;
  document.getElementById("said").textContent = outcome;
  setTimeout(() => (button.textContent = words), 1500);
}

function tsv() {
  const heads = [...table.tHead.rows[0].cells].filter(head => head.dataset.kind);
  const lines = [...table.tBodies[0].rows].map(line => heads.map(head => line.cells[head.cellIndex].dataset.value));
  return [heads.map(head => head.dataset.name), ...lines].map(line => line.join("\t") + "\n").join("");
}

function startTable() {
  for (const head of table.tHead.rows[0].cells) {
    if (!head.dataset.kind) continue;
    const button = made("button", "", ...head.childNodes);
    button.type = "button";
    button.addEventListener("click", () => sortBy(head.cellIndex, head.getAttribute("aria-sort") === "ascending"));
    head.append(button);
  }
  for (const button of document.querySelectorAll("button[data-words]")) {
    button.hidden = false;
    button.addEventListener("click", () => {
      if (button.dataset.copy === "table") return copy(tsv(), button);
      if (button.dataset.copy === "command") return copy(document.getElementById("command").textContent, button);
      return copy(button.closest("tr").dataset.text, button);
    });
  }
}
