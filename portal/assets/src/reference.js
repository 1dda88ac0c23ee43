// Shows an OpenAPI document on #api-reference, with a console that calls the gateway from the browser. Everything it needs comes from the
// portal: no fonts, no telemetry, no proxy, no chat of the renderer's vendor.

import { createApiReference } from "@scalar/api-reference";
import "@scalar/api-reference/style.css";
import "./css/reference.css";
import { currentTheme, onThemeChange } from "./js/theme-toggle.js";

const KEY_HEADER = "x-api-key";

/** Puts the credential into every API key scheme of the document that is sent in the header of the gateway. */
function authentication(document_, credential) {
  const schemes = document_.components?.securitySchemes ?? document_.securityDefinitions ?? {};
  const names = Object.keys(schemes).filter((name) => {
    const scheme = schemes[name];
    return scheme.type === "apiKey" && scheme.in === "header" && scheme.name?.toLowerCase() === KEY_HEADER;
  });
  if (names.length === 0) return undefined;
  return {
    preferredSecurityScheme: names[0],
    securitySchemes: credential ? Object.fromEntries(names.map((name) => [name, { value: credential }])) : {},
  };
}

function configuration(document_, credential, onLoaded) {
  const dark = currentTheme() === "dark";
  return {
    content: document_,
    authentication: authentication(document_, credential),
    theme: "none",
    withDefaultFonts: false,
    forceDarkModeState: dark ? "dark" : "light",
    hideDarkModeToggle: true,
    telemetry: false,
    persistAuth: false,
    hideClientButton: true,
    showDeveloperTools: "never",
    documentDownloadType: "json",
    agent: { disabled: true },
    mcp: { disabled: true },
    defaultHttpClient: { targetKey: "shell", clientKey: "curl" },
    defaultRequestBodyView: "form",
    searchHotKey: "k",
    operationTitleSource: "summary",
    orderSchemaPropertiesBy: "preserve",
    metaData: { title: document.title },
    onLoaded,
  };
}

function fail(host, text) {
  host.replaceChildren();
  const message = document.createElement("p");
  message.className = "reference-loading";
  message.setAttribute("role", "alert");
  message.textContent = text;
  host.append(message);
}

/** Says when the minted credential is over; a reload brings a fresh one. */
function watchExpiry(host) {
  const expires = Date.parse(host.dataset.expiresAt);
  if (!host.dataset.credential || Number.isNaN(expires)) return;
  setTimeout(() => {
    const notice = document.createElement("p");
    notice.className = "reference-notice";
    notice.setAttribute("role", "status");
    const reload = document.createElement("a");
    reload.href = location.href;
    reload.textContent = "Reload the page";
    reload.addEventListener("click", (event) => {
      event.preventDefault();
      location.reload();
    });
    notice.append("The temporary credential of this page has expired. ", reload, " to get a fresh one.");
    host.before(notice);
  }, Math.max(0, expires - Date.now()));
}

async function start(host) {
  let document_;
  try {
    const response = await fetch(host.dataset.url, { headers: { accept: "application/json" } });
    if (!response.ok) throw new Error(`status ${response.status}`);
    document_ = await response.json();
  } catch {
    fail(host, "The API’s document could not be loaded. Please try again.");
    return;
  }
  // A large document takes seconds to lay out: what says so stays until the reference stands beside it.
  const loading = host.querySelector(".reference-loading");
  const configure = () => configuration(document_, host.dataset.credential, () => loading?.remove());
  const mount = document.createElement("div");
  host.append(mount);
  const reference = createApiReference(mount, configure());
  onThemeChange(() => reference.updateConfiguration(configure()));
  watchExpiry(host);
}

const host = document.getElementById("api-reference");
if (host) await start(host);
