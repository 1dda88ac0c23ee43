// Times in the viewer's zone, and digits grouped in the viewer's way. Numbers are grouped as text: nothing is rounded or parsed.

const locale = navigator.languages?.length ? navigator.languages : undefined;
const FORMATS = {
  datetime: { dateStyle: "medium", timeStyle: "short" },
  date: { dateStyle: "medium" },
  time: { timeStyle: "medium" },
};
const UNITS = [
  ["year", 31_536_000],
  ["month", 2_592_000],
  ["day", 86_400],
  ["hour", 3_600],
  ["minute", 60],
];

const formatters = Object.fromEntries(Object.entries(FORMATS).map(([name, options]) => [name, new Intl.DateTimeFormat(locale, options)]));
const relativeFormat = new Intl.RelativeTimeFormat(locale, { numeric: "auto" });
const utcTitle = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium", timeZone: "UTC" });
const calendarDate = new Intl.DateTimeFormat(locale, { dateStyle: "medium", timeZone: "UTC" });

function relative(date) {
  const seconds = (date.getTime() - Date.now()) / 1000;
  for (const [unit, size] of UNITS) {
    if (Math.abs(seconds) >= size) return relativeFormat.format(Math.trunc(seconds / size), unit);
  }
  return relativeFormat.format(Math.trunc(seconds), "second");
}

function showTime(element) {
  const date = new Date(element.dateTime);
  if (Number.isNaN(date.getTime())) return;
  const style = element.dataset.local;
  element.textContent = style === "relative" ? relative(date) : (formatters[style] ?? formatters.datetime).format(date);
  element.title = `${utcTitle.format(date)} UTC`;
}

function separators() {
  const parts = new Intl.NumberFormat(locale).formatToParts(1234567.8);
  return {
    group: parts.find((part) => part.type === "group")?.value ?? ",",
    decimal: parts.find((part) => part.type === "decimal")?.value ?? ".",
  };
}
const { group, decimal } = separators();

/** "-1234567.50" -> "−1,234,567.50" in the viewer's separators; null if it is not a plain decimal. */
export function groupDigits(text) {
  const match = /^(-?)(\d+)(?:\.(\d+))?$/.exec(text.trim());
  if (!match) return null;
  const [, sign, whole, fraction] = match;
  const grouped = whole.replace(/\B(?=(\d{3})+$)/g, group);
  return (sign ? "\u2212" : "") + grouped + (fraction === undefined ? "" : decimal + fraction);
}

let relativeTimer;

export function enhanceText(root) {
  root.querySelectorAll("time[data-local]").forEach(showTime);
  root.querySelectorAll("time[data-date]").forEach((element) => {
    const date = new Date(`${element.dateTime}T00:00:00Z`);
    if (!Number.isNaN(date.getTime())) element.textContent = calendarDate.format(date);
  });
  root.querySelectorAll("data[data-number]").forEach((element) => {
    const text = groupDigits(element.value);
    if (text !== null) element.textContent = text;
  });
  relativeTimer ??= setInterval(() => {
    if (!document.hidden) document.querySelectorAll('time[data-local="relative"]').forEach(showTime);
  }, 30_000);
}
