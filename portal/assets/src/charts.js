// Draws canvas[data-chart]. The shape of the JSON stands in templates/README.md. Chart.js is bundled into this file only.

import {
  BarController, BarElement, CategoryScale, Chart, Filler, LinearScale, LineController, LineElement, PointElement, Tooltip,
} from "chart.js";
import { onThemeChange } from "./js/theme-toggle.js";

Chart.register(BarController, BarElement, CategoryScale, Filler, LinearScale, LineController, LineElement, PointElement, Tooltip);

const locale = navigator.languages?.length ? navigator.languages : undefined;
const number = new Intl.NumberFormat(locale, { maximumFractionDigits: 6 });
const short = new Intl.NumberFormat(locale, { notation: "compact", maximumFractionDigits: 1 });
const TIMES = {
  // Days and months are calendar dates of the tenant: they are not moved into the viewer's zone.
  day: { tick: { day: "numeric", month: "short", timeZone: "UTC" }, title: { dateStyle: "medium", timeZone: "UTC" } },
  month: { tick: { month: "short", year: "numeric", timeZone: "UTC" }, title: { month: "long", year: "numeric", timeZone: "UTC" } },
  hour: { tick: { hour: "2-digit", minute: "2-digit" }, title: { dateStyle: "medium", timeStyle: "short" } },
  // Hours of several days.
  hours: { tick: { weekday: "short", hour: "2-digit" }, title: { dateStyle: "medium", timeStyle: "short" } },
  minute: { tick: { hour: "2-digit", minute: "2-digit" }, title: { dateStyle: "medium", timeStyle: "short" } },
};

// A canvas cannot read light-dark() or var(): an element in the page resolves a token to the colour of the moment.
const probe = document.createElement("span");
probe.hidden = true;
document.body.append(probe);

function cssColour(name) {
  probe.style.color = `var(${name})`;
  return getComputedStyle(probe).color;
}

function seriesColour(series, index) {
  if (series.tone === "error") return cssColour("--danger");
  if (series.tone === "muted") return cssColour("--line-strong");
  return cssColour(`--series-${(index % 8) + 1}`);
}

function dataset(series, index, spec) {
  const colour = seriesColour(series, index);
  const line = spec.type === "line";
  return {
    label: series.name,
    data: series.values.map(Number),
    backgroundColor: line ? colour.replace("rgb(", "rgba(").replace(")", ", 0.12)") : colour,
    borderColor: colour,
    hoverBackgroundColor: line ? undefined : colour,
    borderWidth: line ? 2 : 0,
    fill: line && spec.series.length === 1,
    pointRadius: 0,
    pointHoverRadius: 4,
    pointHitRadius: 12,
    tension: 0.25,
    borderRadius: spec.stacked ? 1.5 : 3,
    maxBarThickness: 36,
    categoryPercentage: 0.86,
    barPercentage: 0.92,
  };
}

function labelFormats(spec) {
  const time = TIMES[spec.time];
  if (!time) return { tick: String, title: String };
  const tick = new Intl.DateTimeFormat(locale, time.tick);
  const title = new Intl.DateTimeFormat(locale, time.title);
  return { tick: (label) => tick.format(new Date(label)), title: (label) => title.format(new Date(label)) };
}

function options(spec) {
  const formats = labelFormats(spec);
  const withUnit = (value) => (spec.unit ? `${number.format(value)} ${spec.unit}` : number.format(value));
  const ink = cssColour("--ink-3");
  const font = { family: getComputedStyle(document.body).fontFamily, size: 12 };
  return {
    responsive: true,
    maintainAspectRatio: false,
    animation: false,
    interaction: { mode: "index", intersect: false },
    scales: {
      x: {
        stacked: Boolean(spec.stacked),
        grid: { display: false },
        border: { color: cssColour("--line-strong") },
        ticks: { color: ink, font, maxRotation: 0, autoSkipPadding: 18, callback: (_, index) => formats.tick(spec.labels[index]) },
      },
      y: {
        stacked: Boolean(spec.stacked),
        beginAtZero: true,
        border: { display: false },
        grid: { color: cssColour("--line") },
        ticks: { color: ink, font, maxTicksLimit: 6, precision: spec.decimals ? undefined : 0, callback: (value) => short.format(value) },
      },
    },
    plugins: {
      legend: { display: false },
      tooltip: {
        backgroundColor: cssColour("--code-canvas"),
        titleColor: cssColour("--code-ink"),
        bodyColor: cssColour("--code-ink"),
        footerColor: cssColour("--code-ink-2"),
        padding: 10,
        boxPadding: 4,
        titleFont: { ...font, weight: 600 },
        bodyFont: font,
        footerFont: font,
        itemSort: spec.stacked ? (a, b) => b.datasetIndex - a.datasetIndex : undefined,
        filter: (item) => !spec.stacked || item.raw !== 0,
        callbacks: {
          labelColor: (item) => ({ borderColor: "transparent", borderWidth: 0, backgroundColor: item.dataset.borderColor, borderRadius: 2 }),
          title: ([item]) => (item ? formats.title(spec.labels[item.dataIndex]) : ""),
          label: (item) => ` ${item.dataset.label}: ${withUnit(item.raw)}`,
          footer: (items) => (spec.stacked && items.length > 1 ? `Total: ${withUnit(items.reduce((sum, item) => sum + item.raw, 0))}` : ""),
        },
      },
    },
  };
}

/** The legend is made of buttons, which hide and show their series: usable by keyboard, unlike the canvas's own. */
function legend(chart, spec, figure, hidden) {
  figure.querySelector(".chart-legend")?.remove();
  if (spec.series.length < 2) return;
  const list = document.createElement("ul");
  list.className = "chart-legend";
  spec.series.forEach((series, index) => {
    const button = document.createElement("button");
    button.type = "button";
    button.setAttribute("aria-pressed", String(!hidden.has(series.name)));
    const swatch = document.createElement("span");
    swatch.className = "chart-swatch";
    swatch.style.backgroundColor = seriesColour(series, index);
    button.append(swatch, series.name);
    button.addEventListener("click", () => {
      const show = !chart.isDatasetVisible(index);
      chart.setDatasetVisibility(index, show);
      if (show) hidden.delete(series.name);
      else hidden.add(series.name);
      button.setAttribute("aria-pressed", String(show));
      chart.update();
    });
    const item = document.createElement("li");
    item.append(button);
    list.append(item);
  });
  figure.querySelector(".chart-canvas").after(list);
}

// Which series the viewer switched off, by chart: kept when the figure is swapped for fresh data.
const hiddenOf = new Map();

function draw(canvas) {
  const figure = canvas.closest("figure");
  const spec = JSON.parse(canvas.dataset.chart);
  Chart.getChart(canvas)?.destroy();
  if (spec.labels.length === 0 || spec.series.every((series) => series.values.every((value) => Number(value) === 0))) {
    const empty = document.createElement("p");
    empty.className = "chart-empty";
    empty.textContent = spec.empty ?? "Nothing in this time.";
    canvas.hidden = true;
    canvas.parentElement.querySelector(".chart-empty")?.remove();
    canvas.parentElement.append(empty);
    return;
  }
  const hidden = hiddenOf.get(figure.id) ?? new Set();
  hiddenOf.set(figure.id, hidden);
  const chart = new Chart(canvas, {
    type: spec.type === "line" ? "line" : "bar",
    data: { labels: spec.labels, datasets: spec.series.map((series, index) => dataset(series, index, spec)) },
    options: options(spec),
  });
  spec.series.forEach((series, index) => hidden.has(series.name) && chart.setDatasetVisibility(index, false));
  if (hidden.size > 0) chart.update();
  legend(chart, spec, figure, hidden);
}

const drawAll = (root) => root.querySelectorAll("canvas[data-chart]").forEach(draw);

document.documentElement.classList.add("js");
drawAll(document);
onThemeChange(() => drawAll(document));
document.addEventListener("beforeswap", (event) => {
  event.target.querySelectorAll("canvas[data-chart]").forEach((canvas) => Chart.getChart(canvas)?.destroy());
});
document.addEventListener("swapped", (event) => drawAll(event.target));
// The scheme may have been read before the stylesheet arrived.
if (document.readyState !== "complete") window.addEventListener("load", () => drawAll(document), { once: true });
