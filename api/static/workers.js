// The workers that are alive, and the batches that they hold, refreshed every few seconds.

import { badge, el, emptyState, errorBox, fill, imageCount, loadingMessage, number, time } from "./dom.js";
import { json } from "./http.js";
import { pause, repeat } from "./visibility.js";

const SECONDS = 2;
const HEADS = ["State", "Worker", "Models", "In progress", "Finished", "Started"];

export function workers(main, { signal }) {
  const body = el("div", {}, loadingMessage("the workers"));
  fill(main, el("div", { class: "head" }, el("h1", { tabindex: "-1" }, "Workers")), body);
  repeat(signal, async (inner) => {
    const { workers: all } = await json("v1/workers", { signal: inner });
    const head = el("thead", {}, el("tr", {}, HEADS.map((name) => el("th", { scope: "col" }, name))));
    fill(body, all.length ? el("table", { class: "models workers" }, head, el("tbody", {}, all.map(row))) : none());
    await pause(SECONDS, inner);
  }, (error) => fill(body, errorBox(error)));
}

function none() {
  return emptyState("No worker has sent a heartbeat in the last seconds; start one:", el("pre", {}, "python -m worker"));
}

function row(worker) {
  const models = Object.entries(worker.models).map(([name, version]) => el("p", {}, el("b", {}, name), ` ${version}`));
  const rejected = Object.entries(worker.rejected).map(([title, reason]) => el("p", { class: "error" }, `${title} cannot be loaded: ${reason}`));
  const sizes = Object.values(worker.batch_sizes);
  return el("tr", {},
    el("td", {}, badge(worker.state)),
    el("td", {}, worker.id, el("br"), el("span", { class: "hint" }, worker.device)),
    el("td", {}, models, rejected),
    el("td", {}, imageCount(worker.running), sizes.length > 0 && el("p", { class: "hint" }, `batches of up to ${number(Math.max(...sizes))}`)),
    el("td", {}, imageCount(worker.images)),
    el("td", {}, time(worker.started_at)),
  );
}
