// Menus are <details>; scripts add what people expect of menus: Escape and a click elsewhere close them, one is open at a time.

const open = () => document.querySelectorAll("details.menu[open]");

export function startMenus() {
  document.addEventListener("click", (event) => {
    open().forEach((menu) => {
      if (!menu.contains(event.target)) menu.open = false;
    });
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    open().forEach((menu) => {
      menu.open = false;
      menu.querySelector("summary").focus();
    });
  });
  document.addEventListener("focusin", (event) => {
    open().forEach((menu) => {
      if (!menu.contains(event.target)) menu.open = false;
    });
  });
}
