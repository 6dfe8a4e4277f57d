// Counts as bars.

import { el, fill, number } from "./dom.js";

const STATES = ["done", "failed", "cancelled", "expired", "running", "queued"];

// A job's counts as one bar, which moves when it is told of new ones.
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
  const there = STATES.filter((state) => counts[state]);
  return fill(node, there.map((state) => el("li", { class: state }, el("b", {}, number(counts[state])), ` ${state}`)));
}

// Rows of a name, a bar as long as its share of the largest, and a number.
export function shares(rows) {
  const most = Math.max(1, ...rows.map((row) => row.count));
  return el("ul", { class: "shares" }, rows.map((row) => {
    const length = el("span", { class: "length" });
    length.style.width = `${(row.count / most) * 100}%`;
    const name = row.href ? el("a", { href: row.href }, row.name) : row.name;
    return el("li", {}, el("span", { class: "name" }, name), el("span", { class: "track" }, length),
      el("span", { class: "count" }, row.shown ?? number(row.count)));
  }));
}

function sentence(counts) {
  const there = STATES.filter((state) => counts[state]).map((state) => `${number(counts[state])} ${state}`);
  return `${there.join(", ") || "no pictures yet"}; ${number(counts.total)} in all`;
}
