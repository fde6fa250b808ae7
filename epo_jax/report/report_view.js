// Which part of the plane is seen: by buttons, keys, the wheel and dragging.
const surface = document.getElementById("surface");
// Whether the reader chose the part that is seen; then nothing else moves it.
let chosen = false;

function look(x, y) {
  parts.x.setv({start: x[0], end: x[1]});
  parts.y.setv({start: y[0], end: y[1]});
  ticks();
  document.dispatchEvent(new Event("viewchange"));
}

// Round perplexities for the upper axis, as many as there is room for.
function ticks() {
  const {start, end} = parts.x, fewest = view.frame.bbox.width > 500 ? 4 : 3;
  const [low, high] = [start, end].map(limit => Math.min(Math.max(limit / Math.LN10, -300), 300));
  let values = [];
  for (const steps of [[1], [1, 3], [1, 2, 5], [1, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9]]) {
    values = [];
    for (let power = Math.floor(low) - 1; power <= high; power++) values.push(...steps.map(step => step * 10 ** power));
    values = values.filter(value => Math.log(value) >= start && Math.log(value) <= end);
    if (values.length >= fewest) break;
  }
  const most = Math.max(Math.floor(view.frame.bbox.width / 70), 2), every = Math.ceil(values.length / most);
  values = values.filter((_, at) => at % every === 0);
  parts.above.major_label_overrides = new Map(values.map(value => [Math.log(value), number(value, 3)]));
  parts.ticks.ticks = values.map(Math.log);
}

function home() {
  chosen = false;
  reset();
}

// Zooms about a place of the frame, in shares of its width and height from its lower left corner.
function zoom(factor, across = 0.5, up = 0.5) {
  const around = ({start, end}, share) => {
    const middle = start + share * (end - start);
    return [middle - (middle - start) * factor, middle + (end - middle) * factor];
  };
  const x = around(parts.x, across), y = around(parts.y, up), whole = told.wide.x[1] - told.wide.x[0];
  if (x[1] - x[0] > 4 * whole || x[1] - x[0] < whole / 1000) return;
  chosen = true;
  look(x, y);
}

function shift(across, up) {
  const by = ({start, end}, share) => [start + share * (end - start), end + share * (end - start)];
  chosen = true;
  look(by(parts.x, across), by(parts.y, up));
}

// Where in the frame a pointer is, in shares.
function share(event) {
  const {left, top, width, height} = view.frame.bbox, edge = surface.getBoundingClientRect();
  return [(event.clientX - edge.left - left) / width, 1 - (event.clientY - edge.top - top) / height];
}

function startView() {
  document.getElementById("closer").addEventListener("click", () => zoom(1 / 1.5));
  document.getElementById("farther").addEventListener("click", () => zoom(1.5));
  document.getElementById("home").addEventListener("click", home);
  // The wheel scrolls the page until the plot has the focus.
  surface.addEventListener("wheel", event => {
    if (document.activeElement !== surface) return;
    event.preventDefault();
    zoom(event.deltaY > 0 ? 1.15 : 1 / 1.15, ...share(event));
  }, {passive: false});
  let held = null;
  surface.addEventListener("pointerdown", event => {
    if (event.button === 0) held = {at: share(event), far: false};
  });
  surface.addEventListener("pointermove", event => {
    if (!held) return;
    const [across, up] = share(event), {width, height} = view.frame.bbox;
    // A hand that clicks may tremble.
    if (!held.far && Math.hypot((across - held.at[0]) * width, (up - held.at[1]) * height) < 6) return;
    if (!held.far) surface.setPointerCapture(event.pointerId);
    held.far = true;
    shift(held.at[0] - across, event.pointerType === "touch" ? 0 : held.at[1] - up);
    held.at = [across, up];
  });
  for (const end of ["pointerup", "pointercancel"]) surface.addEventListener(end, () => {
    surface.dataset.dragged = held && held.far ? "yes" : "";
    held = null;
  });
  new ResizeObserver(() => requestAnimationFrame(ticks)).observe(surface);
}
