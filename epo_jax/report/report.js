async function start() {
  startTable();
  startPins();
  if (!("DecompressionStream" in window)) {
    document.getElementById("old").hidden = false;
    return;
  }
  const [library, data] = await Promise.all([unpacked("library"), unpacked("told")]);
  // The page's policy names the hash of the library, so that nothing else could run here.
  document.head.append(made("script", "", library));
  Bokeh.set_log_level("error");
  told = JSON.parse(data);
  document.getElementById("interactive").hidden = false;
  await draw();
  startEvolution();
  startView();
  startPoint();
  reset();
  mark();
  document.addEventListener("themechange", () => {
    paint();
    show(Number(slider.value));
  });
  surface.dataset.ready = "yes";
}

start();
