// Comfort in forms: showing a password, typed confirmations, no double submit, dismissing messages, focus on the first error.

function match(input) {
  const wanted = input.dataset.match;
  const check = () => input.setCustomValidity(input.value === wanted ? "" : `Type ${wanted} to confirm.`);
  input.addEventListener("input", check);
  check();
}

function reveal(button) {
  const input = document.getElementById(button.dataset.reveal);
  button.addEventListener("click", () => {
    const shown = input.type === "text";
    input.type = shown ? "password" : "text";
    button.setAttribute("aria-pressed", String(!shown));
  });
}

/** A form is sent once: a second submit while the first is under way is dropped. A page restored from history may send again. */
function sendOnce(form) {
  form.addEventListener("submit", (event) => {
    if (form.dataset.sent) return event.preventDefault();
    form.dataset.sent = "yes";
    form.querySelectorAll('button[type="submit"], button:not([type])').forEach((button) => button.setAttribute("aria-disabled", "true"));
  });
  window.addEventListener("pageshow", () => {
    delete form.dataset.sent;
    form.querySelectorAll("button[aria-disabled]").forEach((button) => button.removeAttribute("aria-disabled"));
  });
}

export function enhanceForms(root) {
  root.querySelectorAll("[data-match]").forEach(match);
  root.querySelectorAll("[data-reveal]").forEach(reveal);
  root.querySelectorAll('form[method="post"]').forEach(sendOnce);
  root.querySelectorAll("[data-dismiss]").forEach((button) => {
    button.addEventListener("click", () => button.parentElement.remove());
  });
  root.querySelectorAll("select[data-submit]").forEach((select) => {
    select.addEventListener("change", () => select.form.requestSubmit());
  });
  if (root === document) root.querySelector('[aria-invalid="true"]')?.focus();
}
