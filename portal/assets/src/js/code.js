// Code blocks: tabs (one choice for all blocks, remembered), and light colouring of strings, comments, keywords and options.

const STORED = "code-language";

// One pattern per language; the named group tells the colour. Comments and strings come first, so that nothing inside them is coloured.
const PATTERNS = {
  shell: /(?<c>(?:^|\s)#[^\n]*)|(?<s>"(?:[^"\\]|\\.)*"|'[^']*')|(?<k>^curl\b)|(?<o>(?<=\s)--?[A-Za-z][\w-]*)/gm,
  javascript: /(?<c>(?<!:)\/\/[^\n]*)|(?<s>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|`(?:[^`\\]|\\.)*`)|(?<k>\b(?:const|let|await|async|for|of|if|else|new|return|import|from|function|true|false|null)\b)|(?<o>\b\d[\d_.]*\b)/g,
  python: /(?<c>#[^\n]*)|(?<s>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')|(?<k>\b(?:import|from|as|with|for|in|if|else|elif|def|return|print|True|False|None|async|await)\b)|(?<o>\b\d[\d_.]*\b)/g,
  json: /(?<o>"(?:[^"\\\n]|\\.)*"(?=\s*:))|(?<s>"(?:[^"\\\n]|\\.)*")|(?<k>\b(?:true|false|null)\b)|(?<c>-?\b\d[\d.eE+-]*\b)/g,
};

function colour(code) {
  const pattern = PATTERNS[code.dataset.language];
  const text = code.textContent;
  // Long answers are shown plain: colouring them would cost more than it gives.
  if (!pattern || text.length > 20_000) return;
  const parts = [];
  let end = 0;
  for (const match of text.matchAll(pattern)) {
    const kind = Object.keys(match.groups).find((name) => match.groups[name] !== undefined);
    if (match.index > end) parts.push(text.slice(end, match.index));
    const span = document.createElement("span");
    span.className = `tok-${kind}`;
    span.textContent = match[0];
    parts.push(span);
    end = match.index + match[0].length;
  }
  parts.push(text.slice(end));
  code.replaceChildren(...parts);
}

function remembered() {
  try {
    return localStorage.getItem(STORED);
  } catch {
    return null;
  }
}

function select(block, name, focus = false) {
  for (const tab of block.querySelectorAll('[role="tab"]')) {
    const chosen = tab.dataset.tab === name;
    tab.setAttribute("aria-selected", String(chosen));
    tab.tabIndex = chosen ? 0 : -1;
    document.getElementById(tab.getAttribute("aria-controls")).hidden = !chosen;
    if (chosen && focus) tab.focus();
  }
}

function choose(block, name, focus) {
  try {
    localStorage.setItem(STORED, name);
  } catch {
    // Storage may be forbidden: the choice then lasts for this page.
  }
  for (const other of document.querySelectorAll("[data-tabs]")) {
    if (other.querySelector(`[data-tab="${name}"]`)) select(other, name, focus && other === block);
  }
}

function tabs(block) {
  const all = [...block.querySelectorAll('[role="tab"]')];
  const names = all.map((tab) => tab.dataset.tab);
  all.forEach((tab, index) => {
    tab.addEventListener("click", () => choose(block, tab.dataset.tab, false));
    tab.addEventListener("keydown", (event) => {
      const target = { ArrowRight: index + 1, ArrowLeft: index - 1, Home: 0, End: all.length - 1 }[event.key];
      if (target === undefined) return;
      event.preventDefault();
      choose(block, names[(target + all.length) % all.length], true);
    });
  });
  const wanted = remembered();
  select(block, names.includes(wanted) ? wanted : names[0]);
}

export function enhanceCode(root) {
  root.querySelectorAll("code[data-language]").forEach(colour);
  root.querySelectorAll("[data-tabs]").forEach(tabs);
}
