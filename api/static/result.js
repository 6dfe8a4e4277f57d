// One result, with all that is known of it, in a window of its own.

import { badge, button, el, fill, percent, short, time } from "./dom.js";
import { ask } from "./http.js";
import { shares } from "./charts.js";
import { thumbnail } from "./thumbnails.js";

export function open(row, holder) {
  const again = el("p", { role: "status" });
  const look = row.status !== "cancelled" && holder.role !== "read" &&
    button("Look again", (event) => verify(row, event.target, again));
  const node = el("dialog", { class: "result", "aria-label": row.image },
    el("div", { class: "head" }, el("h2", {}, row.image), button("Close", () => node.close(), { class: "quiet" })),
    el("div", { class: "body" }, thumbnail(row, { soon: true }), el("div", {}, said(row), facts(row))),
    el("div", { class: "actions" }, look, again),
  );
  node.addEventListener("click", (event) => event.target === node && node.close());
  node.addEventListener("close", () => node.remove());
  window.addEventListener("hashchange", () => node.close(), { once: true });
  document.body.append(node);
  node.showModal();
}

function said(row) {
  if (row.scores === null) {
    return el("p", {}, badge(row.status), " ", row.error && el("code", {}, row.error.code), " ", row.error?.detail);
  }
  const scores = Object.entries(row.scores).sort((a, b) => b[1] - a[1]);
  return shares(scores.map(([name, score]) => ({ name, count: score, shown: percent(score) })));
}

function facts(row) {
  const { name, version, digest } = row.model;
  const milliseconds = Object.entries(row.timings).filter(([what]) => what.endsWith("_ms"));
  return el("dl", {},
    fact("Model", version === null ? name : `${name} ${version}`),
    digest && fact("Weights", el("code", { title: digest }, digest.slice(0, 12))),
    fact("Job", el("a", { href: `#/jobs/${row.job_id}`, title: row.job_id }, short(row.job_id))),
    fact("Ended", time(row.finished_at)),
    row.custom_id && fact("Your identifier", row.custom_id),
    row.cached && fact("Known", "the same bytes were classified before, by the same weights"),
    row.environment && fact("Made on", `${row.environment.device}, ${row.environment.precision}`),
    row.environment && fact("Made by", `Sortbelt ${row.environment.sortbelt}, PyTorch ${row.environment.torch}, ${row.environment.decoder}`),
    row.worker && fact("Worker", row.worker),
    milliseconds.map(([what, value]) => fact(what.replace("_ms", ""), `${value.toFixed(1)} ms`)),
  );
}

function fact(name, value) {
  return [el("dt", {}, name), el("dd", {}, value)];
}

async function verify(row, pressed, again) {
  pressed.disabled = true;
  fill(again, "Looking again…");
  try {
    const response = await ask(`v1/results/${row.id}/verify`, { method: "POST", headers: { Prefer: "wait=20" } });
    const job = await response.json();
    const link = el("a", { href: `#/jobs/${job.id}` }, "its job");
    const [found] = job.results ?? [];
    if (!found) fill(again, "It is not done yet; see ", link, ".");
    else fill(again, "It says ", el("b", {}, found.label ?? found.error.code), ` ${percent(found.confidence)} (`, link, ").");
  } catch (error) {
    fill(again, error.message);
    pressed.disabled = false;
  }
}
