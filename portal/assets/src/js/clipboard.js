// [data-copy="text"] copies its text; [data-copy-panel] copies the code shown in its block.

import { announce } from "./announce.js";

const SHOWN_MS = 1600;

/** Puts text on the clipboard; falls back to a selection where the page is not a secure context (plain http). */
async function write(text) {
  if (navigator.clipboard && window.isSecureContext) return navigator.clipboard.writeText(text);
  const area = document.createElement("textarea");
  area.value = text;
  area.className = "visually-hidden";
  // An open modal dialog makes everything outside it inert, so the helper must be inside.
  (document.querySelector("dialog[open]") ?? document.body).append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  if (!done) throw new Error("the browser refused to copy");
}

async function copy(button) {
  const panel = button.closest("[data-tabs]")?.querySelector('[role="tabpanel"]:not([hidden]) code');
  const text = button.hasAttribute("data-copy-panel") ? panel.textContent : button.dataset.copy;
  try {
    await write(text);
  } catch {
    announce("Copying did not work. Please select the text and copy it.");
    return;
  }
  button.dataset.copied = "";
  announce("Copied");
  setTimeout(() => delete button.dataset.copied, SHOWN_MS);
}

export function enhanceClipboard(root) {
  for (const button of root.querySelectorAll("[data-copy], [data-copy-panel]")) {
    button.addEventListener("click", () => copy(button));
  }
}
