// details[data-confirm] becomes a modal dialog. Without scripts it unfolds in place and posts the same form.

function openDialog(details, dialog) {
  dialog.querySelector("form").reset();
  dialog.querySelectorAll("[data-match]").forEach((input) => input.dispatchEvent(new Event("input")));
  dialog.showModal();
  // showModal focuses the first control; for what cannot be undone the viewer starts at the confirmation, not at the button.
  dialog.querySelector('[name="confirm"]')?.focus();
}

function enhance(details) {
  const summary = details.querySelector("summary");
  const body = details.querySelector(".confirm-body");
  const dialog = document.createElement("dialog");
  dialog.className = "dialog";
  dialog.setAttribute("aria-labelledby", `${details.id}-title`);
  dialog.append(body);
  details.after(dialog);
  summary.setAttribute("aria-haspopup", "dialog");
  summary.addEventListener("click", (event) => {
    event.preventDefault();
    openDialog(details, dialog);
  });
  dialog.querySelector("[data-close]")?.addEventListener("click", () => dialog.close());
  // A press that began inside (selecting text) and ended on the backdrop must not close.
  let pressedOutside = false;
  dialog.addEventListener("pointerdown", (event) => (pressedOutside = event.target === dialog && isOutside(event, dialog)));
  dialog.addEventListener("click", (event) => {
    if (pressedOutside && event.target === dialog && isOutside(event, dialog)) dialog.close();
  });
  dialog.addEventListener("close", () => summary.focus());
}

function isOutside(event, dialog) {
  const box = dialog.getBoundingClientRect();
  return event.clientX < box.left || event.clientX > box.right || event.clientY < box.top || event.clientY > box.bottom;
}

export function enhanceDialogs(root) {
  for (const details of root.querySelectorAll("details[data-confirm]")) enhance(details);
}
