// The review queue, worked off: one image at a time, by keys, mouse or touch.

import { button, el, emptyState, errorBox, fill, loadingMessage, number, percent, selectField, showMessage } from "./dom.js";
import { json } from "./http.js";
import { onSwipe } from "./image_dialog.js";
import { prefetch, preview } from "./previews.js";
import { Verdicts } from "./verdicts.js";

const STRATEGIES = [["least_confident", "least confident first"], ["unfamiliar", "least familiar first"],
  ["disagreement", "versions disagree"], ["random", "at random"]];
const AHEAD = 4; // previews fetched before they are shown
const MAX_KEYS = 9;

export async function review(main, { params, signal, caller, go, failed }) {
  const chosen = { strategy: params.get("strategy") ?? "random", model: params.get("model") ?? "" };
  const view = { signal, caller, failed, at: 0, stage: el("section", { class: "review", "aria-label": "Image" }, loadingMessage("the queue")) };
  const models = el("span");
  const move = (changed) => go("/review", { ...chosen, ...changed });
  view.counter = el("p", { class: "hint", role: "status" });
  fill(main,
    el("div", { class: "head" }, el("h1", { tabindex: "-1" }, "Review"), el("a", { href: "#/reviews" }, "What the reviews say")),
    el("form", { class: "filters", onsubmit: (event) => event.preventDefault() },
      selectField("Images", STRATEGIES, chosen.strategy, (strategy) => move({ strategy })), models),
    view.counter, view.stage);
  document.addEventListener("keydown", (event) => key(view, event), { signal });
  try {
    const { models: all } = await json("v1/models", { signal });
    const live = all.filter((one) => one.stage === "live").map((one) => one.name);
    view.labels = new Map(all.map((one) => [`${one.name}@${one.version}`, one.labels]));
    chosen.model ||= live[0] ?? "";
    const offered = [...new Set([chosen.model, ...live])];
    if (offered.length > 1) fill(models, selectField("Model", offered.map((one) => [one, one]), chosen.model, (model) => move({ model })));
    view.verdicts = new Verdicts(chosen, { signal, lost: (item, error, done) => lost(view, item, error, done), more: () => resume(view) });
    await view.verdicts.refill();
    show(view, 0);
  } catch (error) {
    if (!signal.aborted) fill(view.stage, errorBox(error, () => review(main, { params, signal, caller, go, failed })));
  }
}

// Show an image of the queue; beyond its end, that there are no more.
function show(view, at) {
  const { items } = view.verdicts;
  view.at = Math.max(0, Math.min(at, items.length));
  const item = items[view.at];
  count(view);
  if (!item) return fill(view.stage, emptyState("There are no more images to review here. Choose others above; those that you have just been shown can be reviewed by others after ten minutes."), back(view));
  const { row, verdict } = item;
  const photo = preview(row, view.caller);
  photo.tabIndex = -1;
  onSwipe(photo, (by) => show(view, view.at + by));
  view.choices = labels(view, row);
  fill(view.stage,
    el("h2", {}, row.image),
    photo,
    el("p", { class: "answer" }, "Model: ", el("b", {}, row.label), ` ${percent(row.confidence)}`,
      verdict && ["; reviewed: ", el("b", {}, verdict.label ?? verdict.verdict.replaceAll("_", " "))]),
    el("div", { class: "actions choices" },
      choiceButton("Right", "Enter", () => decide(view, { label: row.label }), "primary"),
      view.choices.map((label, index) => choiceButton(label, String(index + 1), () => decide(view, { label }))),
      choiceButton("None of these", "0", () => decide(view, { verdict: "none_of_these" })),
      choiceButton("Cannot be judged", "B", () => decide(view, { verdict: "bad_image" })),
    ),
    back(view));
  photo.focus({ preventScroll: true });
  prefetch(items.slice(view.at + 1, view.at + 1 + AHEAD).map((one) => one.row), view.caller);
}

function back(view) {
  return el("div", { class: "actions" },
    choiceButton("Previous", "←", () => show(view, view.at - 1)),
    choiceButton("Next", "→", () => show(view, view.at + 1)),
    choiceButton("Undo", "U", () => undo(view)));
}

function choiceButton(name, hint, onclick, kind = null) {
  return button([name, el("kbd", { "aria-hidden": "true" }, hint)], onclick, { class: kind });
}

// The labels of the model in its order; of more than nine, those with the highest scores.
function labels(view, row) {
  const all = view.labels.get(`${row.model.name}@${row.model.version}`) ?? Object.keys(row.scores);
  if (all.length <= MAX_KEYS) return all;
  const likely = [...all].sort((a, b) => (row.scores[b] ?? 0) - (row.scores[a] ?? 0)).slice(0, MAX_KEYS);
  return all.filter((label) => likely.includes(label));
}

function decide(view, verdict) {
  const item = view.verdicts.items[view.at];
  if (!item) return;
  view.verdicts.decide(item, verdict);
  const next = view.verdicts.items.findIndex((one, index) => index > view.at && !one.verdict);
  show(view, next < 0 ? view.verdicts.items.length : next);
}

function undo(view) {
  const item = view.verdicts.undo();
  if (item) show(view, view.verdicts.items.indexOf(item));
}

function key(view, event) {
  if (!view.verdicts || event.ctrlKey || event.altKey || event.metaKey || event.target.closest("input, select, textarea, dialog")) return;
  const item = view.verdicts.items[view.at];
  const act = {
    Enter: () => item && !event.target.closest("a, button") && decide(view, { label: item.row.label }),
    0: () => decide(view, { verdict: "none_of_these" }),
    b: () => decide(view, { verdict: "bad_image" }),
    u: () => undo(view),
    ArrowLeft: () => show(view, view.at - 1),
    ArrowRight: () => show(view, view.at + 1),
  }[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  const label = /^[1-9]$/.test(event.key) && item ? view.choices[event.key - 1] : null;
  if (label) decide(view, { label });
  else act?.();
}

// A verdict was not stored, or not withdrawn: its image is shown again.
function lost(view, item, error, done) {
  if (!view.signal.aborted) show(view, view.verdicts.items.indexOf(item));
  showMessage(`The review of ${item.row.image} was not ${done}. ${error.message}`);
}

// More images have come: go on if the end was shown.
function resume(view) {
  const first = view.verdicts.items.findIndex((one) => !one.verdict);
  if (view.stage.querySelector(".empty-state") && first >= view.at) show(view, first);
  else count(view);
}

function count(view) {
  const { done, items } = view.verdicts;
  const left = items.filter((one) => !one.verdict).length;
  view.counter.textContent = `${number(done)} reviewed, ${number(left)} waiting`;
}
