// Switches between light and dark; the choice is kept by the browser and read before the first paint by theme.js.

export function currentTheme() {
  return document.documentElement.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
}

/** Calls `listener` whenever the colours change, by the toggle or by the system. */
export function onThemeChange(listener) {
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", listener);
  document.addEventListener("themechange", listener);
}

export function startTheme() {
  document.querySelectorAll("[data-theme-toggle]").forEach((button) => {
    button.addEventListener("click", () => {
      const theme = currentTheme() === "dark" ? "light" : "dark";
      document.documentElement.dataset.theme = theme;
      try {
        localStorage.setItem("theme", theme);
      } catch {
        // Storage may be forbidden: the choice then lasts for this page.
      }
      document.dispatchEvent(new Event("themechange"));
    });
  });
}
