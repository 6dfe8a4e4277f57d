// One job: its progress, its actions, and its results as they come.

import { button, canSubmit, duration, el, errorBox, fill, imageCount, jobBadge, loadingMessage, number, shortId, showMessage, time } from "./dom.js";
import { countsBar, legend } from "./charts.js";
import { follow, json, jsonBody, post } from "./http.js";
import { notifyButton } from "./notify.js";
import { Results } from "./results.js";
import { csvButton, filterBar, readFilters } from "./search.js";
import { pause, repeat } from "./visibility.js";

const REFRESH_SECONDS = 1.5;
const IDLE_SHARE = 10; // seconds between two refreshes for each second that one takes

export function job(main, context) {
  const { id, signal, params } = context;
  const chosen = { ...readFilters(params), job: "" };
  const view = { ...context, chosen, bar: countsBar(), results: new Results(signal, context), query: { ...chosen, job: id } };
  view.move = (changed) => context.go(`/jobs/${id}`, { ...chosen, ...changed });
  view.head = el("div", { class: "head" }, el("h1", { tabindex: "-1", title: id }, `Job ${shortId(id)}`));
  view.state = el("section", { class: "panel", "aria-label": "State" }, loadingMessage("the job"));
  view.labels = el("div", { class: "labels" });
  fill(main, el("a", { class: "back-link", href: "#/" }, "← All jobs"), view.head, view.state,
    view.labels, filterBar(chosen, `/jobs/${id}`, context), view.results.node);
  repeat(signal, (inner) => follow(id, (latest) => update(view, latest), inner), (error) => {
    if (![404, 410].includes(error.status)) return context.failed(error); // it may be temporary
    fill(main, el("a", { class: "back-link", href: "#/" }, "← All jobs"), errorBox(error));
    return "over";
  });
}

function update(view, latest) {
  view.job = latest;
  draw(view);
  const ended = latest.counts.total - latest.counts.queued - latest.counts.running;
  if (view.ended !== ended || latest.finished_at) {
    view.ended = ended;
    refresh(view);
  }
}

// Run one refresh at a time, and another one after it if the job has changed meanwhile.
async function refresh(view) {
  view.stale = true;
  if (view.busy) return;
  view.busy = true;
  while (view.stale && !view.signal.aborted) {
    view.stale = false;
    const began = performance.now();
    await Promise.all([view.results.query ? view.results.refresh() : load(view), refreshLabels(view)]);
    const seconds = (performance.now() - began) / 1000;
    await pause(Math.max(REFRESH_SECONDS, seconds * IDLE_SHARE), view.signal).catch(() => {});
  }
  view.busy = false;
}

function load(view) {
  const filtered = Object.values(view.chosen).some(Boolean);
  const under = view.job && !view.job.finished_at ? "There are no results yet." : "This job has no results.";
  return view.results.load(view.query, filtered ? "This job has no matching results." : under);
}

function draw(view) {
  const { job: latest, bar } = view;
  bar.update(latest.counts);
  view.words ??= { legend: el("ul", { class: "legend" }), sentence: el("p"), actions: el("div", { class: "actions" }) };
  if (!bar.node.isConnected) fill(view.state, bar.node, view.words.legend, view.words.sentence, view.words.actions);
  legend(view.words.legend, latest.counts);
  fill(view.words.sentence, sentence(latest));
  const status = `${latest.status} ${latest.sealed} ${latest.name} ${latest.counts.total}`;
  if (view.status !== status) {
    view.status = status;
    fill(view.words.actions, actions(view));
    const title = view.head.firstElementChild;
    fill(view.head, fill(title, `Job ${latest.name ?? shortId(latest.id)}`), jobBadge(latest));
  }
}

function sentence(latest) {
  const { total, queued, running, done, failed } = latest.counts;
  const parts = [`${number(total - queued - running)} of ${imageCount(total)} finished: ${number(done)} labelled, ${number(failed)} failed. `,
    `For ${latest.model}, submitted by ${latest.owner} `, time(latest.created_at), ". "];
  if (latest.finished_at) parts.push("Ended after ", duration((Date.parse(latest.finished_at) - Date.parse(latest.created_at)) / 1000), ". ");
  else if (latest.estimated_finish) {
    const seconds = Math.max(0, (Date.parse(latest.estimated_finish) - Date.now()) / 1000);
    if (latest.queue_position) parts.push(`${imageCount(latest.queue_position)} ahead in the queue. `);
    parts.push(`Done in about ${duration(seconds)}. `);
  }
  if (!latest.sealed) parts.push(...waiting(latest));
  if (latest.scan) parts.push(`Import from ${latest.scan.source}: ${number(latest.scan.found)} found, ${latest.scan.status}. `, latest.scan.error);
  if (latest.retry_of) parts.push("It retries the images without a label of ", el("a", { href: `#/jobs/${latest.retry_of}` }, shortId(latest.retry_of)), ". ");
  return parts;
}

// What an open job waits for: the page says in its metadata how many images it will add.
function waiting(latest) {
  const missing = (latest.metadata?.expected_images ?? 0) - latest.counts.total;
  if (!(missing > 0)) return ["The job is open: images can be added. "];
  return [`The job is open and waits for ${number(missing)} more. If nothing sends them, choose the same images again, or seal the job. `];
}

function actions(view) {
  const { counts, finished_at: over, sealed, scan } = view.job;
  const lost = counts.failed + counts.cancelled + counts.expired;
  const may = canSubmit(view.caller);
  return [
    may && !over && button("Cancel queued images", () => act(view, "cancel")),
    may && !sealed && !scan && button("Seal: add no more images", () => act(view, "seal")),
    may && over && lost > 0 && button("Retry images without a label", () => act(view, "retry")),
    !over && notifyButton(view.job, view.session),
    may && button("Rename", () => rename(view)),
    may && button("Delete", () => remove(view)),
    csvButton(view.query, view),
  ];
}

async function act(view, action) {
  view.words.actions.querySelectorAll("button").forEach((one) => (one.disabled = true));
  try {
    const latest = await post(`v1/jobs/${view.id}/${action}`, { signal: view.signal });
    const left = (latest.left_out ?? []).map((one) => `${number(one.images)} ${one.code}`);
    if (latest.id !== view.id) {
      view.go(`/jobs/${latest.id}`);
      if (left.length) setTimeout(showMessage, 300, `Left out, since they would fail again: ${left.join(", ")}.`);
    }
    if (latest.id === view.id) update(view, latest);
  } catch (error) {
    view.failed(error);
  }
  fill(view.words.actions, actions(view));
}

async function rename(view) {
  const name = window.prompt("Name of the job; empty for none", view.job.name ?? "");
  if (name === null) return;
  try {
    update(view, await json(`v1/jobs/${view.id}`, { method: "PATCH", ...jsonBody({ name: name.trim() || null }) }));
  } catch (error) {
    view.failed(error);
  }
}

async function remove(view) {
  const what = imageCount(view.job.counts.total);
  if (!window.confirm(`Delete this job with ${what}, their bytes and results? This cannot be undone.`)) return;
  try {
    await json(`v1/jobs/${view.id}`, { method: "DELETE" });
    view.go("/");
    setTimeout(showMessage, 300, `The job and its ${what} were deleted.`);
  } catch (error) {
    view.failed(error);
  }
}

async function refreshLabels(view) {
  const query = `group=label&job=${view.id}`;
  const { stats } = await json(`v1/stats?${query}`, { signal: view.signal }).catch(() => ({ stats: [] }));
  const labels = stats.filter((one) => one.key !== null);
  fill(view.labels, labels.map((one) => {
    const chosen = view.query.label === one.key;
    const given = { class: "chip", name: `label ${one.key}`, "aria-pressed": chosen ? "true" : "false" };
    return button([el("b", {}, one.key), ` ${number(one.count)}`], () => view.move({ label: chosen ? "" : one.key }), given);
  }));
}
