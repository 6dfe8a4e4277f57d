// One image large, with all fields of its result, in a dialog over the list that it is from.

import { badge, button, canSubmit, el, fill, percent, shortId, time } from "./dom.js";
import { json, request } from "./http.js";
import { barChart } from "./charts.js";
import { prefetch, preview } from "./previews.js";

const SWIPE_PIXELS = 50;

export class ImageDialog {
  // `step(row, by)` returns the row before (-1) or after (1) a row, or null; `moved(row)` is called when another one is
  // to be shown, `closed()` at the end.
  constructor({ caller, step, moved, closed }) {
    Object.assign(this, { caller, step, moved });
    this.title = el("h2", { tabindex: "-1" });
    this.body = el("div", { class: "body" });
    this.actions = el("div", { class: "actions" });
    this.moves = [button("←", () => this.move(-1), { "aria-label": "Previous image" }),
      button("→", () => this.move(1), { "aria-label": "Next image" })];
    this.node = el("dialog", { "aria-label": "Image" },
      el("div", { class: "head" }, this.title, el("div", { class: "actions" }, this.moves, button("Close", () => this.node.close(), { class: "quiet" }))),
      this.body, this.actions);
    this.node.addEventListener("click", (event) => event.target === this.node && this.node.close());
    this.node.addEventListener("keydown", (event) => this.key(event));
    this.node.addEventListener("close", () => (this.node.remove(), closed()));
    onSwipe(this.body, (by) => this.move(by));
    document.body.append(this.node);
    this.node.showModal();
  }

  close() {
    if (this.node.open) this.node.close();
  }

  async show(row) {
    this.row = row;
    const again = el("p", { role: "status" });
    fill(this.title, row.image);
    fill(this.body, preview(row, this.caller), el("div", { class: "side" }, resultDetails(row), facts(row)));
    fill(this.actions, canSubmit(this.caller) && [
      row.status !== "cancelled" && button("Verify", (event) => verify(row, event.target, again)),
      button("Delete", () => this.remove(again)),
    ], again);
    this.title.focus({ preventScroll: true });
    const sides = await Promise.all([this.step(row, -1), this.step(row, 1)]);
    if (this.row !== row) return;
    sides.forEach((side, index) => (this.moves[index].disabled = side === null));
    prefetch(sides.filter(Boolean), this.caller);
  }

  async move(by) {
    const row = this.row && await this.step(this.row, by);
    if (row && this.node.open) this.moved(row);
  }

  key(event) {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (by) this.move(by);
  }

  async remove(status) {
    const { row } = this;
    if (!window.confirm(`Delete ${row.image} with its bytes and result? This cannot be undone.`)) return;
    try {
      await json(`v1/images/${row.image_id}`, { method: "DELETE" });
      document.dispatchEvent(new CustomEvent("deleted", { detail: [row.image_id] }));
      this.close();
    } catch (error) {
      fill(status, error.message);
    }
  }
}

// Call `move` with -1 or 1 when a finger has moved to the right or to the left.
export function onSwipe(node, move) {
  let begin = null;
  node.addEventListener("touchstart", (event) => (begin = event.touches.length === 1 ? event.touches[0] : null), { passive: true });
  node.addEventListener("touchend", (event) => {
    if (!begin) return;
    const [across, down] = [event.changedTouches[0].clientX - begin.clientX, event.changedTouches[0].clientY - begin.clientY];
    begin = null;
    if (Math.abs(across) > SWIPE_PIXELS && Math.abs(across) > 2 * Math.abs(down)) move(across > 0 ? -1 : 1);
  });
}

function resultDetails(row) {
  if (row.scores === null) {
    const code = row.error && el("a", { href: `docs#image-${row.error.code}`, target: "_blank" }, el("code", {}, row.error.code));
    return el("p", {}, badge(row.status), " ", code, " ", row.error?.detail);
  }
  const scores = Object.entries(row.scores).sort((a, b) => b[1] - a[1]);
  const review = row.review && el("p", {}, "Reviewed: ", el("b", {}, row.review.label ?? row.review.verdict.replaceAll("_", " ")));
  return [review, barChart(scores.map(([name, score]) => ({ name, count: score, shown: percent(score) })), 1)];
}

function facts(row) {
  const { name, version, digest } = row.model;
  const milliseconds = Object.entries(row.timings).filter(([what]) => what.endsWith("_ms"));
  return el("dl", {},
    fact("Model", version === null ? name : `${name} ${version}`),
    digest && fact("Weights", el("code", { title: digest }, digest.slice(0, 12))),
    fact("Submitted by", row.owner),
    fact("Job", el("a", { href: `#/jobs/${row.job_id}`, title: row.job_id }, shortId(row.job_id))),
    fact("Finished", time(row.finished_at)),
    row.familiarity != null && fact("Familiarity", `${percent(row.familiarity)} of the photos held out from training are less familiar`),
    row.custom_id && fact("Your identifier", row.custom_id),
    row.cached && fact("Cached", "the same bytes were classified before with the same weights"),
    row.environment && fact("Device", `${row.environment.device}, ${row.environment.precision}`),
    row.environment && fact("Software", `Sortbelt ${row.environment.sortbelt}, PyTorch ${row.environment.torch}, ${row.environment.decoder}`),
    row.worker && fact("Worker", row.worker),
    milliseconds.map(([what, value]) => fact(what.replace("_ms", ""), `${value.toFixed(1)} ms`)),
  );
}

function fact(name, value) {
  return [el("dt", {}, name), el("dd", {}, value)];
}

async function verify(row, pressed, again) {
  pressed.disabled = true;
  fill(again, "Classifying again…");
  try {
    const response = await request(`v1/results/${row.id}/verify`, { method: "POST", headers: { Prefer: "wait=20" } });
    const job = await response.json();
    const link = el("a", { href: `#/jobs/${job.id}` }, "its job");
    const [found] = job.results ?? [];
    if (!found) fill(again, "Not done yet; see ", link, ".");
    else fill(again, "Result: ", el("b", {}, found.label ?? found.error.code), ` ${percent(found.confidence)} (`, link, ").");
  } catch (error) {
    fill(again, error.message);
    pressed.disabled = false;
  }
}
