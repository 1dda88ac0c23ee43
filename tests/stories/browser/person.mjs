// A person at a real browser: screenshots, accessibility, and an eye on errors and on where requests go.

import { mkdirSync } from "node:fs";
import { join } from "node:path";

import { AxeBuilder } from "@axe-core/playwright";
import { chromium } from "playwright-core";

const screenshots = process.env.SCREENSHOTS;
mkdirSync(screenshots, { recursive: true });

/** Rules that are off on the page of the API reference only, whose markup is its renderer's. It breaks `aria-required-attr` and `aria-prohibited-attr`;
 * the others are left out by precaution, and any that it keeps may go from this list. */
const RENDERER_RULES = [
  "aria-allowed-attr",
  "aria-input-field-name",
  "aria-prohibited-attr",
  "aria-required-attr",
  "aria-required-children",
  "aria-required-parent",
  "aria-valid-attr-value",
  "button-name",
  "color-contrast",
  "label",
  "list",
  "nested-interactive",
  "scrollable-region-focusable",
];

export function check(holds, message) {
  if (!holds) throw new Error(message);
}

export async function open(origins, options = {}) {
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM,
    args: ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking"],
  });
  const context = await browser.newContext({ viewport: { width: 1280, height: 860 }, locale: "en-GB", timezoneId: "UTC", ...options });
  await context.grantPermissions(["clipboard-read", "clipboard-write"], { origin: origins[0] });
  const page = await context.newPage();
  return new Person(browser, context, page, origins);
}

class Person {
  constructor(browser, context, page, origins) {
    Object.assign(this, { browser, context, page, origins, faults: [], shots: 0 });
    page.setDefaultTimeout(15_000);
    // What a page logs as an error is a fault, except that a status of the API itself is what some steps ask for.
    page.on("console", (message) => {
      if (message.type() === "error" && !this.expected?.test(message.text())) this.faults.push(`console on ${page.url()}: ${message.text()}`);
    });
    page.on("pageerror", (error) => this.faults.push(`script on ${page.url()}: ${error.stack ?? error}`));
    page.on("request", (request) => {
      const url = new URL(request.url());
      const local = ["data:", "blob:", "about:"].includes(url.protocol);
      if (!local && !origins.includes(url.origin)) this.faults.push(`request to another origin: ${url.href}`);
    });
  }

  async go(path) {
    const response = await this.page.goto(new URL(path, this.origins[0]).href, { waitUntil: "load" });
    check(response.ok(), `${path} answers ${response.status()}`);
  }

  async press(name) {
    await this.page.getByRole("button", { name, exact: true }).click();
  }

  async follow(name) {
    await this.page.getByRole("link", { name, exact: true }).first().click();
  }

  /** Fills fields by their labels, which therefore must be there and name one field each. */
  async fill(fields) {
    for (const [label, value] of Object.entries(fields)) {
      await this.page.getByLabel(label, { exact: true }).fill(value);
    }
  }

  /** A screenshot in a theme and width, and a look for what keeps people out. */
  async look(name, { theme = "light", width = 1280, renderer = false, whole = true } = {}) {
    const { page } = this;
    await page.setViewportSize({ width, height: width < 600 ? 844 : 860 });
    await page.emulateMedia({ colorScheme: theme, reducedMotion: "reduce" });
    await page.evaluate(() => document.fonts.ready);
    this.shots += 1;
    const file = `${String(this.shots).padStart(2, "0")}-${name}${theme === "dark" ? "-dark" : ""}${width === 1280 ? "" : `-${width}`}.png`;
    await page.screenshot({ path: join(screenshots, file), fullPage: whole });
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    if (wide > 1 && !renderer) this.faults.push(`${file}: the page is ${wide} px wider than the window`);
    const builder = new AxeBuilder({ page });
    if (renderer) builder.disableRules(RENDERER_RULES);
    let { violations } = await builder.analyze();
    if (violations.length > 0) {
      // A change of the colour scheme on an open page may leave single cells with their old colour until they are styled anew; people do not
      // change it between two frames. What is still there after everything was styled again is a fault.
      await page.evaluate(async () => {
        document.body.hidden = true;
        document.body.getBoundingClientRect();
        document.body.hidden = false;
        await new Promise((styled) => requestAnimationFrame(() => requestAnimationFrame(styled)));
      });
      ({ violations } = await builder.analyze());
    }
    for (const violation of violations.filter(({ impact }) => impact === "serious" || impact === "critical")) {
      const nodes = violation.nodes.slice(0, 3).map((node) => `${node.target.join(" ")}: ${node.failureSummary?.replaceAll("\n", " ")}`);
      this.faults.push(`${file}: ${violation.id} (${violation.impact}), ${violation.help}\n    ${nodes.join("\n    ")}`);
    }
  }

  /** All faults at once, so that one run shows them all. */
  async leave() {
    await this.browser.close();
    check(this.faults.length === 0, `faults:\n${this.faults.join("\n")}`);
  }

  /** Runs the steps; a failure takes a picture of where it happened. */
  async does(steps) {
    try {
      await steps();
    } catch (error) {
      await this.page.screenshot({ path: join(screenshots, "failure.png"), fullPage: true });
      const text = (await this.page.locator("body").innerText()).slice(0, 1500);
      await this.browser.close();
      throw new Error(`${error.stack}\nat ${this.page.url()}:\n${text}\n${this.faults.join("\n")}`);
    }
    await this.leave();
  }
}
