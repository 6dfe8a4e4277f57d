// Results as cards with thumbnails, page by page.

import { button, el, empty, fill, loading, percent, trouble } from "./dom.js";
import { page } from "./http.js";
import { open } from "./result.js";
import { thumbnail } from "./thumbnails.js";

const ROWS = 60;

export class Results {
  constructor(signal, holder) {
    this.signal = signal;
    this.holder = holder;
    this.cards = new Map(); // by the id of the result, which never changes
    this.grid = el("ul", { class: "cards" });
    this.note = el("div");
    this.foot = el("div", { class: "foot" });
    this.node = el("section", { "aria-label": "Results" }, this.note, this.grid, this.foot);
    this.asked = 0;
    this.grown = false; // whether somebody has looked beyond the first page
  }

  // What is asked, as an object of parameters; empty ones are left out.
  async load(query, waiting = "There are no such results.") {
    this.query = query;
    this.waiting = waiting;
    this.grown = false;
    fill(this.note, this.grid.children.length ? null : loading("results"));
    await this.fetch(null);
  }

  // The first page anew, unless somebody is reading further down.
  async refresh() {
    if (!this.grown) await this.fetch(null);
  }

  async fetch(cursor) {
    const turn = (this.asked += 1);
    const given = Object.entries({ ...this.query, limit: ROWS, cursor }).filter(([, value]) => value);
    try {
      const { rows, next } = await page("v1/results", new URLSearchParams(given), this.signal);
      if (turn === this.asked) this.show(rows.results, next, cursor !== null);
    } catch (error) {
      if (this.signal.aborted || turn !== this.asked) return;
      fill(this.note, trouble(error, () => this.fetch(cursor)));
    }
  }

  show(rows, next, further) {
    const cards = rows.map((row) => this.card(row));
    if (further) this.grid.append(...cards);
    else arrange(this.grid, cards);
    fill(this.note, this.grid.children.length ? null : empty(this.waiting));
    fill(this.foot, next && button("Show more", (event) => this.more(event.target, next)));
  }

  async more(pressed, next) {
    this.grown = true;
    pressed.disabled = true;
    const last = this.grid.lastElementChild;
    await this.fetch(next);
    last?.nextElementSibling?.firstElementChild.focus();
  }

  card(row) {
    if (!this.cards.has(row.id)) this.cards.set(row.id, card(row, this.holder));
    return this.cards.get(row.id);
  }
}

// Without moving what stays, which may have the focus.
function arrange(grid, cards) {
  let place = grid.firstChild;
  for (const one of cards) {
    if (one === place) place = place.nextSibling;
    else grid.insertBefore(one, place);
  }
  while (grid.lastChild && grid.children.length > cards.length) grid.lastChild.remove();
}

function card(row, holder) {
  const inside = [
    thumbnail(row),
    el("span", { class: "name", title: row.image }, row.image),
    el("span", { class: "verdict" }, verdict(row), row.confidence !== null && el("span", {}, percent(row.confidence))),
    row.confidence !== null && measure(row.confidence),
  ];
  return el("li", {}, el("button", { type: "button", class: "card", onclick: () => open(row, holder) }, inside));
}

function verdict(row) {
  if (row.label !== null) return el("b", {}, row.label);
  return el("b", { class: row.status }, row.status);
}

function measure(confidence) {
  const length = el("span", { class: "length" });
  length.style.width = `${confidence * 100}%`;
  return el("span", { class: confidence < 0.6 ? "track unsure" : "track", "aria-hidden": "true" }, length);
}
