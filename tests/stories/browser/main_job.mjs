// The main job by clicking: from the catalog to a call in usage. Then the pages in dark colours and on a phone.

import { check, open } from "./person.mjs";

const { PORTAL, GATEWAY, PASSWORD } = process.env;
const EMAIL = "bea@example.com";
const person = await open([PORTAL, GATEWAY]);
const { page } = person;

await person.does(async () => {
  await visitor();
  await signUp();
  await organization();
  const key = await subscribeAndKey();
  await call(key);
  await usage();
  await tryIt();
  await otherPages();
  await demoOrganization();
});
console.log(`browser: ${person.shots} pages looked at`);

async function visitor() {
  await person.go("/");
  await page.waitForURL("**/catalog");
  check((await page.locator(".product-card").count()) === 3, "three products are listed");
  await person.look("catalog");
  await person.look("catalog", { width: 390 });
  await person.follow("Plans and prices");
  await page.waitForURL("**/pricing");
  await person.look("pricing");
  await person.go("/catalog");
  await person.follow("Weather");
  await page.getByRole("heading", { name: "Weather", level: 1 }).waitFor();
  await person.look("product");
  await person.look("product", { theme: "dark" });
  // The theme can be chosen, and stays chosen.
  const colour = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const becomes = (wanted) => page.waitForFunction((wanted) => getComputedStyle(document.body).backgroundColor === wanted, wanted);
  const dark = await colour();
  await page.emulateMedia({ colorScheme: "light" });
  await page.waitForFunction((dark) => getComputedStyle(document.body).backgroundColor !== dark, dark);
  const light = await colour();
  await page.locator("[data-theme-toggle]").click();
  await becomes(dark);
  await page.reload();
  await becomes(dark);
  await page.locator("[data-theme-toggle]").click();
  await becomes(light);
  await page.evaluate(() => localStorage.removeItem("theme"));
  // Copying works.
  await page.getByRole("button", { name: "Copy the base URL" }).click();
  const copied = await page.evaluate(() => navigator.clipboard.readText());
  check(copied.startsWith(GATEWAY), `the base URL is copied, not ${copied}`);
}

async function signUp() {
  await person.go("/sign-up");
  await person.look("sign-up");
  await person.fill({ Name: "Bea Browser", "E-mail address": EMAIL, Password: PASSWORD });
  await person.press("Sign up");
  await page.getByRole("heading", { name: "Check your mail" }).waitFor();
  await person.look("check-your-mail");
  await person.follow("development mailbox");
  await page.locator("tbody tr", { hasText: EMAIL }).getByRole("link").waitFor();
  await person.look("mailbox");
  await page.locator("tbody tr", { hasText: EMAIL }).getByRole("link").click();
  await page.locator(".mail-text a").waitFor();
  await person.look("mail");
  await page.locator(".mail-text a").click();
  await person.look("verify");
  // Verifying needs no mouse: Enter sends the password, and whoever knows it is signed in.
  const password = page.getByLabel("Password", { exact: true });
  await password.focus();
  await page.keyboard.type("not-the-password");
  person.expected = /401/;
  await page.keyboard.press("Enter");
  await page.locator("[role=alert], .notice-error").first().waitFor();
  person.expected = undefined;
  await person.look("verify-refused");
  await password.focus();
  await page.keyboard.type(PASSWORD);
  await page.keyboard.press("Enter");
  await page.waitForURL("**/tenants/new");
}

async function organization() {
  await person.look("organization-new");
  await person.fill({ Name: "Bea & Sons" });
  await person.press("Create organization");
  await page.waitForURL("**/overview");
  await person.look("overview-new");
}

async function subscribeAndKey() {
  await person.go("/usage");
  await person.look("usage-empty");
  await person.go("/applications");
  await person.look("applications-empty");
  await person.follow("New application");
  await person.look("application-new");
  await page.locator("main").getByLabel("Name", { exact: true }).fill("Harbour screens");
  await person.press("Create application");
  await page.getByRole("heading", { name: "Harbour screens" }).waitFor();
  await person.look("application");
  await person.follow("Browse the API catalog");
  await person.follow("Weather");
  await page.locator(".plan", { has: page.getByRole("heading", { name: "Free", exact: true }) }).getByRole("link", { name: "Subscribe" }).click();
  await page.waitForURL("**/subscribe?**");
  await person.look("subscribe");
  await person.press("Subscribe");
  await page.waitForURL("**/applications/app_*");
  await page.locator("form", { has: page.getByRole("button", { name: "Create key" }) }).locator("[name=name]").fill("Terminal 1");
  await person.press("Create key");
  await page.locator("[data-secret]").waitFor();
  await person.look("key-shown-once");
  await person.look("key-shown-once", { width: 390 });
  const key = await page.locator("[data-secret]").innerText();
  await page.locator(".secret .copy-button").first().click();
  check((await page.evaluate(() => navigator.clipboard.readText())) === key, "the key is copied");
  await page.goto(page.url().replace(/\/keys$/, ""));
  check(!(await page.content()).includes(key), "the key is shown once");
  return key;
}

async function call(key) {
  await person.go("/usage");
  // The page is open while the call is made, and shows it by itself.
  const watching = page.getByRole("heading", { name: "Calls over time" }).waitFor();
  const answer = await fetch(`${GATEWAY}/weather/v1/forecast?city=oslo&days=3`, { headers: { "x-api-key": key } });
  check(answer.ok, `the call answers ${answer.status}: ${await answer.text()}`);
  const ended = Date.now();
  await watching;
  console.log(`browser: the open usage page shows a first call after ${Date.now() - ended} ms`);
}

async function usage() {
  await page.reload();
  const calls = page.locator(".stat", { has: page.getByText("Calls", { exact: true }) }).locator("data");
  check((await calls.innerText()) === "1", "one call is one call");
  await page.locator("canvas").first().waitFor();
  await person.look("usage-first-call");
  await page.getByRole("heading", { name: "Cost so far" }).waitFor();
}

async function tryIt() {
  await person.go("/catalog/weather/reference");
  await page.getByText("Forecast of a city").first().waitFor();
  await person.look("reference", { renderer: true, whole: false });
  await person.look("reference", { renderer: true, whole: false, theme: "dark" });
  await page.emulateMedia({ colorScheme: "light" });
  // The console calls the gateway, which is another origin, with a key that is minted for it and ends by itself.
  await person.press("Use a temporary key");
  await page.getByText("The console uses a temporary key").waitFor();
  await page.getByText("Forecast of a city").first().waitFor();
  await page.getByRole("button", { name: /^Test Request/ }).first().click();
  const console_ = page.getByRole("dialog");
  await console_.getByRole("button", { name: /^Send/ }).first().waitFor();
  const answered = page.waitForResponse((response) => response.url().startsWith(GATEWAY) && response.request().method() === "GET");
  await console_.getByRole("button", { name: /^Send/ }).first().click();
  const answer = await answered;
  check(answer.status() === 200, `the console's call answers ${answer.status()}`);
  check(answer.request().headers()["x-api-key"]?.startsWith("tk_live_"), "it carries the temporary key");
  await console_.getByText("oslo").first().waitFor();
  await person.look("reference-console", { renderer: true, whole: false });
  await page.keyboard.press("Escape");
}

async function otherPages() {
  const pages = ["overview", "applications", "subscriptions", "invoices", "settings", "settings/members", "settings/tokens", "settings/audit", "account", "tenants/new"];
  for (const path of pages) {
    await person.go(`/${path}`);
    await person.look(path.replaceAll("/", "-"));
  }
  person.expected = /404/;
  await page.goto(`${PORTAL}/nothing-here`);
  await person.look("not-found");
  person.expected = undefined;
}

/** The demo's developer and operator have more to look at. */
async function demoOrganization() {
  await signInAs("dev@demo.tollkeeper.local");
  for (const [path, name] of [["/overview", "demo-overview"], ["/usage?range=30d", "demo-usage"], ["/invoices", "demo-invoices"]]) {
    await person.go(path);
    if (name === "demo-usage") await page.locator("canvas").first().waitFor();
    await person.look(name);
    await person.look(name, { theme: "dark" });
    await person.look(name, { width: 390 });
  }
  await page.setViewportSize({ width: 1280, height: 860 });
  await page.locator("tbody a").first().click();
  await person.look("demo-invoice");
  await signInAs("admin@demo.tollkeeper.local");
  for (const path of ["products", "products/weather", "products/weather/routes", "products/import", "plans", "meters", "tenants", "gateways", "invoices"]) {
    await person.go(`/admin/${path}`);
    await person.look(`admin-${path.replaceAll("/", "-")}`);
  }
  await person.go("/admin/plans");
  await person.look("admin-plans", { theme: "dark" });
  await person.look("admin-plans", { width: 390 });
}

async function signInAs(email) {
  await person.context.clearCookies();
  await person.go("/sign-in");
  await person.fill({ "E-mail address": email, Password: PASSWORD });
  await person.press("Sign in");
  await page.waitForURL((url) => !url.pathname.startsWith("/sign-in"));
}
