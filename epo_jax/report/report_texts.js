// Texts and numbers. Whatever a prompt holds is set as text, never read as markup.
async function unpacked(id) {
  const packed = Uint8Array.from(atob(document.getElementById(id).textContent), letter => letter.charCodeAt(0));
  return new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
}

function made(tag, kind, ...parts) {
  const element = document.createElement(tag);
  if (kind) element.className = kind;
  element.append(...parts);
  return element;
}

function number(value, digits = 4) {
  if (value !== 0 && (Math.abs(value) >= 1e6 || Math.abs(value) < 1e-4)) return value.toExponential(1).replace("e+", "e");
  return value.toLocaleString("en", {maximumSignificantDigits: digits}).replace("-", "\u2212");
}

// One box for each token, as the table has them. A token is a list: text, spaces as their number, marks in lists.
function boxes(tokens) {
  const prompt = made("span", "prompt");
  for (const token of tokens) {
    const box = made("bdi", "t");
    for (const piece of token) {
      if (typeof piece === "string") box.append(piece);
      else if (Array.isArray(piece)) box.append(made("span", "m", piece[0]));
      else for (let at = 0; at < piece; at++) box.append(made("span", "s", " "));
    }
    prompt.append(box);
  }
  return prompt;
}

function facts(feature, nats, perplexity, iteration) {
  const line = made("p", "facts");
  const add = (...parts) => line.append(made("span", "", ...parts), " ");
  add(made("b", "", feature), " feature");
  add(made("b", "", nats), " nats/token");
  add(made("b", "", perplexity), " perplexity");
  if (iteration !== undefined) add("iteration ", made("b", "", iteration));
  return line;
}

function factsOf({dataset}) {
  return facts(dataset.feature, dataset.nats, dataset.perplexity, dataset.iteration);
}

function row(at) {
  return document.getElementById("prompt-" + (at + 1));
}
