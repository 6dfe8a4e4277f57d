// Results as cards with thumbnails, page by page.

import { button, el, emptyState, errorBox, fill, loadingMessage, percent } from "./dom.js";
import { shownImage, withImage } from "./address.js";
import { json, page, query } from "./http.js";
import { ImageDialog } from "./image_dialog.js";
import { Selection } from "./selection.js";
import { thumbnail } from "./thumbnails.js";

const ROWS = 100;
const UNFAMILIAR = 0.02; // as in `sortbelt sort --unfamiliar`

export class Results {
  constructor(signal, { caller, go }) {
    this.signal = signal;
    this.caller = caller;
    this.go = go;
    this.cards = new Map(); // by the id of the result, of which only the review changes
    this.grid = el("ul", { class: "cards" });
    this.note = el("div");
    this.foot = el("div", { class: "foot" });
    this.selection = new Selection(this);
    this.node = el("section", { "aria-label": "Results" }, this.note, this.grid, this.foot, this.selection.bar);
    this.rows = [];
    this.dialog = null;
    document.addEventListener("deleted", (event) => event.detail.forEach((id) => this.removeCard(id)), { signal });
    document.addEventListener("imagechange", () => this.showImage(), { signal });
    signal.addEventListener("abort", () => this.dialog?.close());
    this.requests = 0;
    this.showsSeveralPages = false; // whether more than the first page is shown
  }

  // Load the first page of a query: an object of parameters, of which empty ones are omitted.
  async load(query, waiting = "There are no matching results.") {
    this.query = query;
    this.waiting = waiting;
    this.showsSeveralPages = false;
    fill(this.note, this.grid.children.length ? null : loadingMessage("results"));
    await this.fetch(null);
  }

  // Reload the first page, unless more pages are shown.
  async refresh() {
    if (!this.showsSeveralPages) await this.fetch(null);
  }

  async fetch(cursor) {
    const turn = (this.requests += 1);
    try {
      const { rows, next } = await page("v1/results", query({ ...this.query, limit: ROWS, cursor }), this.signal);
      if (turn === this.requests) this.show(rows.results, next, cursor !== null);
    } catch (error) {
      if (this.signal.aborted || turn !== this.requests) return;
      fill(this.note, errorBox(error, () => this.fetch(cursor)));
    }
  }

  show(rows, next, further) {
    const cards = rows.map((row) => this.card(row));
    this.rows = further ? [...this.rows, ...rows] : rows;
    this.next = next;
    if (further) this.grid.append(...cards);
    else arrange(this.grid, cards);
    fill(this.note, this.grid.children.length ? null : emptyState(this.waiting));
    fill(this.foot, next && button("Show more", (event) => this.more(event.target)));
    if (!this.dialog && shownImage()) this.showImage();
  }

  async more(pressed) {
    pressed.disabled = true;
    const last = this.grid.lastElementChild;
    await this.loadNextPage();
    last?.nextElementSibling?.firstElementChild.focus();
  }

  async loadNextPage() {
    this.showsSeveralPages = true;
    await this.fetch(this.next);
  }

  // Show the image of the address large, or none.
  async showImage() {
    const id = shownImage();
    if (!id) return this.dialog?.close();
    this.dialog ??= this.openDialog();
    const { dialog } = this;
    try {
      const row = this.rows.find((one) => one.id === id) ?? await json(`v1/results/${encodeURIComponent(id)}`, { signal: this.signal });
      if (shownImage() === id) await dialog.show(row);
    } catch (error) {
      if (!this.signal.aborted) fill(dialog.body, errorBox(error));
    }
  }

  openDialog() {
    const dialog = new ImageDialog({
      caller: this.caller,
      step: (row, by) => this.step(row, by),
      moved: (row) => {
        history.replaceState(null, "", withImage(row.id));
        this.showImage();
      },
      closed: () => {
        this.dialog = null;
        if (shownImage() && !this.signal.aborted) history.replaceState(null, "", withImage(null));
        this.cards.get(dialog.row?.id)?.querySelector("button").focus();
      },
    });
    return dialog;
  }

  // The row before or after a row in the list, of which more is loaded at its end; null if there is none.
  async step(row, by) {
    const index = this.rows.findIndex((one) => one.id === row.id);
    if (index < 0) return null;
    if (index + by >= this.rows.length && this.next) await this.loadNextPage();
    return this.rows[index + by] ?? null;
  }

  // Remove the card of a deleted image, whose id is that of its result.
  removeCard(id) {
    this.cards.get(id)?.remove();
    this.cards.delete(id);
    this.rows = this.rows.filter((row) => row.id !== id);
    if (this.selection.ids.delete(id)) this.selection.show();
  }

  card(row) {
    const review = JSON.stringify(row.review);
    if (this.cards.get(row.id)?.dataset.review !== review) this.cards.set(row.id, this.draw(row));
    return this.cards.get(row.id);
  }

  draw(row) {
    const inside = [
      thumbnail(row),
      el("span", { class: "name", title: row.image }, row.image),
      el("span", { class: "verdict" }, verdict(row), row.confidence !== null && el("span", {}, percent(row.confidence))),
      row.confidence !== null && measure(row.confidence),
      row.review && el("span", { class: "note" }, `reviewed: ${row.review.label ?? row.review.verdict.replaceAll("_", " ")}`),
      row.familiarity != null && row.familiarity < UNFAMILIAR && el("span", { class: "note" }, "unfamiliar"),
    ];
    return el("li", { "data-review": JSON.stringify(row.review) }, el("button", { type: "button", class: "card", onclick: (event) => this.click(row, event) }, inside), this.selection.box(row));
  }

  // With a modifier key a click selects; else it shows the image large.
  click(row, event) {
    if (event.shiftKey || event.ctrlKey || event.metaKey) this.selection.pick(row.id, !this.selection.ids.has(row.id), event.shiftKey);
    else location.hash = withImage(row.id);
  }
}

// Replace the cards without moving those that stay, which may have the focus.
function arrange(grid, cards) {
  let place = grid.firstChild;
  for (const one of cards) {
    if (one === place) place = place.nextSibling;
    else grid.insertBefore(one, place);
  }
  while (grid.lastChild && grid.children.length > cards.length) grid.lastChild.remove();
}

function verdict(row) {
  if (row.label !== null) return el("b", {}, row.label);
  return el("b", { class: row.status }, row.status);
}

function measure(confidence) {
  const length = el("span", { class: "length" });
  length.style.width = `${confidence * 100}%`;
  return el("span", { class: confidence < 0.6 ? "track low-confidence" : "track", "aria-hidden": "true" }, length);
}
