// Small helpers for pages that work without them. Each takes a root, so that content swapped in later gets them as well.

import { enhanceClipboard } from "./js/clipboard.js";
import { enhanceDialogs } from "./js/dialogs.js";
import { enhanceForms } from "./js/forms.js";
import { enhanceCode } from "./js/code.js";
import { enhanceText } from "./js/local-text.js";
import { startMenus } from "./js/menus.js";
import { startPolling } from "./js/polling.js";
import { startTheme } from "./js/theme-toggle.js";

document.documentElement.classList.add("js");

function enhance(root) {
  enhanceText(root);
  enhanceClipboard(root);
  enhanceCode(root);
  enhanceForms(root);
  enhanceDialogs(root);
}

enhance(document);
startMenus();
startTheme();
startPolling(enhance);
document.addEventListener("click", (event) => {
  if (event.target instanceof Element && event.target.closest("[data-print]")) print();
});
