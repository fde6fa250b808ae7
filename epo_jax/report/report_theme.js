"use strict";
// Light, dark or as the system has it. It runs before anything is drawn.
(() => {
  const NAME = "epo_jax.theme", root = document.documentElement;
  let kept = true;

  // A file that was opened from a disk may have no storage. Then the choice lasts as long as the page, and it says so.
  function withStorage(action) {
    try {
      return action(localStorage);
    } catch (error) {
      if (!(error instanceof DOMException) || !["SecurityError", "QuotaExceededError"].includes(error.name)) throw error;
      kept = false;
      return null;
    }
  }

  function set(theme) {
    if (theme === "auto") delete root.dataset.theme;
    else root.dataset.theme = theme;
    document.dispatchEvent(new Event("themechange"));
  }

  const known = withStorage(storage => storage.getItem(NAME));
  const first = ["light", "dark"].includes(known) ? known : "auto";
  set(first);
  document.addEventListener("DOMContentLoaded", () => {
    const control = document.getElementById("theme");
    for (const choice of control.elements) {
      choice.checked = choice.value === first;
      choice.addEventListener("change", () => {
        set(choice.value);
        withStorage(storage => storage.setItem(NAME, choice.value));
        if (!kept) control.title = "This browser does not let the page remember the choice.";
      });
    }
    control.hidden = false;
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    document.dispatchEvent(new Event("themechange"));
  });
})();
