// Counts as bars.

import { el, fill, number } from "./dom.js";

const STATES = ["done", "failed", "cancelled", "expired", "running", "queued"];
const COLORS = 8; // in page.css

// A job's counts as one bar; `update` shows new counts.
export function countsBar() {
  const parts = Object.fromEntries(STATES.map((state) => [state, el("span", { class: state })]));
  const node = el("div", { class: "bar", role: "img" }, Object.values(parts));
  const update = (counts) => {
    for (const state of STATES) parts[state].style.flexGrow = counts[state];
    node.setAttribute("aria-label", sentence(counts));
  };
  return { node, update };
}

export function legend(node, counts) {
  const present = STATES.filter((state) => counts[state]);
  return fill(node, present.map((state) => el("li", { class: state }, el("b", {}, number(counts[state])), ` ${state}`)));
}

// Rows with a name, a bar relative to the whole, by default the largest count, and the count.
export function barChart(rows, whole = Math.max(1, ...rows.map((row) => row.count))) {
  return el("ul", { class: "bar-chart" }, rows.map((row) => {
    const length = el("span", { class: "length" });
    length.style.width = `${(row.count / whole) * 100}%`;
    return line(row, el("span", { class: "track" }, length));
  }));
}

function line(row, track) {
  const name = row.href ? el("a", { href: row.href }, row.name) : row.name;
  return el("li", {}, el("span", { class: "name" }, name), track, el("span", { class: "count" }, row.shown ?? number(row.count)));
}

// Rows as in `barChart`, whose bars may consist of parts: links with a series, of which each has a color.
export function stackedBarChart(rows) {
  const largest = Math.max(1, ...rows.map((row) => row.count));
  const series = [...new Set(rows.flatMap((row) => row.parts.map((part) => part.series)))];
  const color = (part) => `length series s${series.indexOf(part.series) % COLORS}`;
  const list = el("ul", { class: "bar-chart" }, rows.map((row) => {
    const parts = row.parts.length ? row.parts : [{ ...row, series: null }];
    const lengths = parts.filter((part) => part.count).map((part) => {
      const given = { class: row.parts.length ? color(part) : "length", title: part.name };
      const length = part.href && row.parts.length ? el("a", { ...given, href: part.href, "aria-label": `${row.name}, ${part.name}` }) : el("span", given);
      length.style.width = `${(part.count / largest) * 100}%`;
      return length;
    });
    return line(row, el("span", { class: "track stacked" }, lengths));
  }));
  const key = series.map((one) => el("li", {}, el("span", { class: color({ series: one }) }), one));
  return [series.length > 0 && el("ul", { class: "series-key" }, key), list];
}

function sentence(counts) {
  const present = STATES.filter((state) => counts[state]).map((state) => `${number(counts[state])} ${state}`);
  return `${present.join(", ") || "no images yet"}; ${number(counts.total)} in total`;
}
