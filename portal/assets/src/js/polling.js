// [data-poll="URL"] refetches its content every [data-poll-seconds] (default 5) and swaps it when it changed. It rests while the page is
// hidden, while the viewer is in it (a menu, a field, a selection), and slows down when the portal does not answer.

const MOST_SECONDS = 60;

function isInUse(element) {
  const selection = getSelection();
  return element.querySelector("details.menu[open], details.confirm[open], dialog[open]") !== null
    || (element.contains(document.activeElement) && document.activeElement.matches("input, select, textarea"))
    || (selection !== null && !selection.isCollapsed && element.contains(selection.anchorNode));
}

class Poll {
  constructor(element, enhance) {
    this.element = element;
    this.enhance = enhance;
    this.seconds = Math.max(1, Number(element.dataset.pollSeconds) || 5);
    this.failures = 0;
    this.text = null;
    this.wait();
    document.addEventListener("visibilitychange", () => this.wake());
  }

  wait() {
    clearTimeout(this.timer);
    if (document.hidden || !this.element.isConnected) return;
    const seconds = Math.min(MOST_SECONDS, this.seconds * 2 ** this.failures);
    this.timer = setTimeout(() => this.refresh(), seconds * 1000);
  }

  wake() {
    this.state(document.hidden ? "paused" : "live");
    clearTimeout(this.timer);
    if (!document.hidden) this.refresh();
  }

  async refresh() {
    if (this.busy) return;
    if (isInUse(this.element)) return this.wait();
    this.busy = true;
    try {
      const response = await fetch(this.element.dataset.poll, { headers: { accept: "text/html" }, signal: AbortSignal.timeout(15_000) });
      if (response.redirected || response.status === 401) {
        // The session ended: loading the page again leads to the sign-in page and back.
        location.reload();
        return;
      }
      if (!response.ok) throw new Error(`status ${response.status}`);
      this.swap(await response.text());
      this.failures = 0;
      this.state("live");
    } catch {
      this.failures = Math.min(this.failures + 1, 6);
      this.state("failed");
    } finally {
      this.busy = false;
    }
    this.wait();
  }

  swap(html) {
    if (html === this.text) return;
    this.text = html;
    // Parsing into a template runs no scripts; what stands in the page is ours and escaped by the portal.
    const template = document.createElement("template");
    template.innerHTML = html;
    this.element.dispatchEvent(new CustomEvent("beforeswap", { bubbles: true }));
    const unfolded = [...this.element.querySelectorAll("details[id][open]")].map((details) => details.id);
    this.element.replaceChildren(template.content);
    // What the viewer unfolded stays so.
    for (const id of unfolded) document.getElementById(id)?.setAttribute("open", "");
    this.enhance(this.element);
    this.element.dispatchEvent(new CustomEvent("swapped", { bubbles: true }));
  }

  state(name) {
    document.querySelectorAll(".live").forEach((mark) => {
      mark.dataset.state = name;
      mark.textContent = { live: "Live", paused: "Paused", failed: "Reconnecting…" }[name];
    });
  }
}

export function startPolling(enhance) {
  document.querySelectorAll("[data-poll]").forEach((element) => new Poll(element, enhance));
}
