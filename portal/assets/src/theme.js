// Runs before the first paint (a plain blocking script in <head>) so that a chosen colour scheme never flashes.
(() => {
  try {
    const chosen = localStorage.getItem("theme");
    if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
  } catch {
    // Storage may be forbidden by the browser's settings: the system's scheme is used then.
  }
})();
