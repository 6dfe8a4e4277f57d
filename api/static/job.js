// One job: how far it is, what can be done with it, and its results as they come.

import { badge, button, choice, el, fill, loading, number, pictures, short, span, time, trouble } from "./dom.js";
import { countsBar, legend } from "./charts.js";
import { follow, json, post } from "./http.js";
import { Results } from "./results.js";
import { fetched } from "./search.js";
import { pause, repeat } from "./shown.js";

const REFRESH_SECONDS = 1.5;
const IDLE_SHARE = 10; // for each second that the server takes to answer, it is left alone for so many

export function job(main, context) {
  const { id, signal } = context;
  const view = { ...context, bar: countsBar(), results: new Results(signal, context.holder), query: { job: id } };
  view.head = el("div", { class: "head" }, el("h1", { tabindex: "-1", title: id }, `Job ${short(id)}`));
  view.state = el("section", { class: "panel", "aria-label": "State" }, loading("the job"));
  view.labels = el("div", { class: "labels" });
  fill(main, el("a", { class: "back", href: "#/" }, "← All jobs"), view.head, view.state,
    el("div", { class: "controls" }, view.labels, filters(view)), view.results.node);
  repeat(signal, (inner) => follow(id, (told) => news(view, told), inner), (error) => {
    if (![404, 410].includes(error.status)) return context.failed(error); // it may pass
    fill(main, el("a", { class: "back", href: "#/" }, "← All jobs"), trouble(error));
    return "over";
  });
}

function news(view, told) {
  view.job = told;
  draw(view);
  const ended = told.counts.total - told.counts.queued - told.counts.running;
  if (view.ended !== ended || told.finished_at) {
    view.ended = ended;
    refresh(view);
  }
}

// At most one at a time, and one more when it is over if there is news by then.
async function refresh(view) {
  view.stale = true;
  if (view.busy) return;
  view.busy = true;
  while (view.stale && !view.signal.aborted) {
    view.stale = false;
    const began = performance.now();
    await Promise.all([view.results.query ? view.results.refresh() : load(view), tellLabels(view)]);
    const seconds = (performance.now() - began) / 1000;
    await pause(Math.max(REFRESH_SECONDS, seconds * IDLE_SHARE), view.signal).catch(() => {});
  }
  view.busy = false;
}

function load(view) {
  const filtered = view.query.label || view.query.status || view.query.name || view.query.order;
  const under = view.job && !view.job.finished_at ? "There are no results yet." : "This job has no results.";
  return view.results.load(view.query, filtered ? "This job has no such results." : under);
}

function draw(view) {
  const { job: told, bar } = view;
  bar.update(told.counts);
  view.words ??= { legend: el("ul", { class: "legend" }), sentence: el("p"), actions: el("div", { class: "actions" }) };
  if (!bar.node.isConnected) fill(view.state, bar.node, view.words.legend, view.words.sentence, view.words.actions);
  legend(view.words.legend, told.counts);
  fill(view.words.sentence, sentence(told));
  if (view.status !== `${told.status} ${told.sealed}`) {
    view.status = `${told.status} ${told.sealed}`;
    fill(view.words.actions, actions(view));
    fill(view.head, view.head.firstElementChild, badge(told.status));
  }
}

function sentence(told) {
  const parts = [pictures(told.counts.total), ` for ${told.model}, sent `, time(told.created_at), ". "];
  if (told.finished_at) parts.push("Over after ", span((Date.parse(told.finished_at) - Date.parse(told.created_at)) / 1000), ". ");
  else if (told.estimated_finish) {
    const seconds = Math.max(0, (Date.parse(told.estimated_finish) - Date.now()) / 1000);
    if (told.queue_position) parts.push(`${pictures(told.queue_position)} of others go before. `);
    parts.push(`Over in about ${span(seconds)}. `);
  }
  if (!told.sealed) parts.push("It is open: more pictures may come. ");
  if (told.scan) parts.push(`Filled from ${told.scan.source}: ${number(told.scan.found)} found, ${told.scan.status}. `, told.scan.error);
  if (told.retry_of) parts.push("It tries again what failed in ", el("a", { href: `#/jobs/${told.retry_of}` }, short(told.retry_of)), ". ");
  return parts;
}

function actions(view) {
  const { counts, finished_at: over, sealed, scan } = view.job;
  const lost = counts.failed + counts.cancelled + counts.expired;
  const may = view.holder.role !== "read";
  return [
    may && !over && button("Cancel what waits", () => order(view, "cancel")),
    may && !sealed && !scan && button("No more pictures will come", () => order(view, "seal")),
    may && over && lost > 0 && button("Try again what got no label", () => order(view, "retry")),
    button("Download CSV", (event) => fetched(event.target, new URLSearchParams(given(view.query)), view.signal, view.failed)),
  ];
}

async function order(view, what) {
  view.words.actions.querySelectorAll("button").forEach((one) => (one.disabled = true));
  try {
    const told = await post(`v1/jobs/${view.id}/${what}`, { signal: view.signal });
    if (told.id !== view.id) view.go(`/jobs/${told.id}`);
    else news(view, told);
  } catch (error) {
    view.failed(error);
  }
  fill(view.words.actions, actions(view));
}

function filters(view) {
  const change = (changed) => (Object.assign(view.query, changed), load(view), view.results.node.scrollIntoView({ block: "nearest" }));
  view.change = change;
  return el("form", { class: "filters", onsubmit: (event) => event.preventDefault() },
    choice("Status", [["", "any"], ["done", "done"], ["failed", "failed"], ["cancelled", "cancelled"], ["expired", "expired"]],
      "", (status) => change({ status })),
    choice("Order", [["", "newest first"], ["confidence", "least confident first"]], "", (wanted) => change({ order: wanted })),
    el("label", {}, "Name contains", el("input", { type: "search", onchange: (event) => change({ name: event.target.value.trim() }) })),
  );
}

async function tellLabels(view) {
  const query = `group=label&job=${view.id}`;
  const { stats } = await json(`v1/stats?${query}`, { signal: view.signal }).catch(() => ({ stats: [] }));
  const labels = stats.filter((one) => one.key !== null);
  fill(view.labels, labels.map((one) => {
    const chosen = view.query.label === one.key;
    const toggle = () => {
      view.change({ label: chosen ? "" : one.key });
      tellLabels(view);
    };
    return button([el("b", {}, one.key), ` ${number(one.count)}`], toggle, { class: "chip", "aria-pressed": chosen ? "true" : "false" });
  }));
}

function given(query) {
  return Object.entries(query).filter(([, value]) => value);
}
