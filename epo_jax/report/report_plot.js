// The plot, drawn by BokehJS. It has no tools and hears no events: the parts below move it and answer the reader.
let told, view, plot;
const parts = {};

function dark() {
  const theme = document.documentElement.dataset.theme;
  return theme ? theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

function colours() {
  return told.colours[dark() ? "dark" : "light"];
}

// The iterations' colours, between those that the palette names.
function ramp(stops) {
  const channels = stops.map(stop => [1, 3, 5].map(at => parseInt(stop.slice(at, at + 2), 16)));
  return Array.from({length: 256}, (_, step) => {
    const along = (step / 255) * (stops.length - 1), left = Math.min(Math.floor(along), stops.length - 2);
    const mixed = channels[left].map((low, at) => Math.round(low + (along - left) * (channels[left + 1][at] - low)));
    return "#" + mixed.map(channel => channel.toString(16).padStart(2, "0")).join("");
  });
}

function model(name, id, attributes) {
  return {type: "object", name, id, attributes};
}

const field = (name, more) => ({type: "field", field: name, ...more});
const always = value => ({type: "value", value});

function source(id, ...columns) {
  return model("ColumnDataSource", id + "-data", {data: {type: "map", entries: columns.map(name => [name, []])}});
}

function glyph(id, name, columns, attributes) {
  return model("GlyphRenderer", id, {data_source: source(id, ...columns), glyph: model(name, id + "-glyph", attributes)});
}

function axis(id, label, attributes) {
  const font = {axis_label_text_font_style: "normal", axis_label_text_font: "system-ui, sans-serif",
    axis_label_text_font_size: "13px", major_label_text_font: "system-ui, sans-serif", major_label_text_font_size: "12px"};
  return model("LinearAxis", id, {axis_label: label, minor_tick_line_color: null, major_tick_in: 0, ...font, ...attributes});
}

function plotModel() {
  const x = field("x"), y = field("y"), ends = told.iterations || 1;
  const mapper = model("LinearColorMapper", "mapper", {palette: ramp(colours().ramp), low: 0, high: ends});
  const renderers = [
    glyph("dots", "Scatter", ["x", "y", "iteration"], {x, y, size: always(5), line_color: always(null),
      fill_color: field("iteration", {transform: mapper}), fill_alpha: always(0.6)}),
    glyph("early", "MultiLine", ["xs", "ys"], {xs: field("xs"), ys: field("ys"), line_alpha: always(0.45)}),
    glyph("names", "Text", ["x", "y", "text"], {x, y, text: field("text"), y_offset: always(4),
      text_baseline: always("top"), text_align: always("center"), text_font_size: always("11px"), text_font: always("system-ui, sans-serif")}),
    glyph("examples", "Scatter", ["x", "y"], {x, y, marker: always("diamond"), size: always(11), fill_alpha: always(0.85)}),
    glyph("line", "Line", ["x", "y"], {x, y, line_width: 1.8}),
    glyph("pinned", "Scatter", ["x", "y"], {x, y, size: always(22), fill_alpha: always(0), line_width: always(2)}),
    glyph("points", "Scatter", ["x", "y", "colour", "size"], {x, y, size: field("size"), fill_color: field("colour"),
      line_width: always(1)}),
  ];
  const below = axis("below", "cross-entropy (nats/token)   \u2190 more fluent", {});
  const left = axis("left", "feature   fires more \u2192", {});
  const above = axis("above", "perplexity", {ticker: model("FixedTicker", "ticks", {ticks: []})});
  const spans = told.examples ? [level("maximum", "dataset's maximum"), level("percentile", "dataset's 99.9th percentile")] : [];
  return model("Plot", "frontier-plot", {
    x_range: model("Range1d", "x", {start: 0, end: 1}), y_range: model("Range1d", "y", {start: 0, end: 1}),
    below: [below], left: [left], above: [above], renderers,
    center: [model("Grid", "across", {dimension: 0, axis: {id: "below"}}), model("Grid", "along", {dimension: 1, axis: {id: "left"}}), ...spans.flat()],
    sizing_mode: "stretch_both", toolbar_location: null, min_border_right: 14, min_border_top: 0,
  });
}

// A line across the plot, with its name at the left end.
function level(id, name) {
  const value = told.examples[id];
  if (value === null) return [];
  return [
    model("Span", id, {dimension: "width", location: value, line_dash: "dashed", line_width: 1.2}),
    model("Label", id + "-name", {x: 6, x_units: "screen", y: value, y_offset: 2, text: `${name} ${number(value)}`,
      text_font: "system-ui, sans-serif", text_font_size: "11px"}),
  ];
}

async function draw() {
  const doc = {version: Bokeh.version, title: "", roots: [plotModel()]};
  const views = await Bokeh.embed.embed_item({doc, root_id: "frontier-plot", target_id: "canvas"});
  view = views.get_by_id("frontier-plot");
  plot = view.model;
  for (const part of plot.references()) parts[part.id] = part;
  const {examples} = told;
  if (examples) parts["examples-data"].data = {x: examples.x, y: examples.y};
  paint();
}

// The colours of everything but the frontier's points, which change with the iteration too.
function paint() {
  const now = colours();
  plot.setv({background_fill_color: now.background, border_fill_color: now.background, outline_line_color: now.grid});
  for (const id of ["below", "left", "above"]) {
    parts[id].setv({axis_label_text_color: now.muted, major_label_text_color: now.muted, axis_line_color: now.grid,
      major_tick_line_color: now.grid});
  }
  parts.across.grid_line_color = parts.along.grid_line_color = now.grid;
  parts.mapper.palette = ramp(now.ramp);
  parts["line-glyph"].line_color = now.line;
  parts["early-glyph"].line_color = {value: now.line};
  parts["names-glyph"].text_color = {value: now.muted};
  parts["pinned-glyph"].line_color = {value: now.ink};
  parts["points-glyph"].line_color = {value: now.background};
  parts["examples-glyph"].setv({fill_color: {value: now.examples}, line_color: {value: now.background}});
  for (const id of ["maximum", "percentile"]) {
    if (id in parts) parts[id].line_color = parts[id + "-name"].text_color = now.examples;
  }
}

// Where values stand, in pixels of the plot's box.
function pixel(x, y) {
  return [view.frame.x_scale.compute(x), view.frame.y_scale.compute(y)];
}
