// Says something to screen readers without moving the focus.

let region;

export function announce(text) {
  if (!region) {
    region = document.createElement("div");
    region.className = "visually-hidden";
    region.setAttribute("role", "status");
    document.body.append(region);
  }
  // Emptied first, so that the same words said twice are announced twice.
  region.textContent = "";
  requestAnimationFrame(() => (region.textContent = text));
}
