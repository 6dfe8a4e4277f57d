// The list of jobs, newest first, and the upload area.

import { button, canSubmit, el, emptyState, errorBox, fill, imageCount, jobBadge, loadingMessage, selectField, shortId, SINCE_OPTIONS, time } from "./dom.js";
import { countsBar } from "./charts.js";
import { follow, page, query } from "./http.js";
import { pause, repeat } from "./visibility.js";
import { dropZone } from "./upload_area.js";

const ROWS = 30;
const MAX_ROWS = 1000; // that the server gives in one answer
const IDLE_SECONDS = 10;
const MIN_SECONDS = 1;
const STATUSES = ["queued", "running", "done", "failed", "cancelled", "expired"];

export function jobs(main, { params, signal, caller, go, failed }) {
  const status = params.get("status") ?? "";
  const name = params.get("name") ?? "";
  const filters = { status, name, owner: params.get("owner") ?? "", model: params.get("model") ?? "", since: params.get("since") ?? "" };
  const move = (changed) => go("/", { ...filters, ...changed });
  const view = { filters, signal, jobs: [], next: null, oldest: null, note: el("div"), rows: el("tbody"), foot: el("div", { class: "foot" }) };
  view.table = el("table", { class: "jobs" },
    el("thead", {}, el("tr", {}, ["Status", "Job", "Submitted", "Images", "Key", "Model"].map((name) => el("th", { scope: "col" }, name)))), view.rows);
  view.table.hidden = true;
  fill(main,
    el("div", { class: "head" }, el("h1", { tabindex: "-1" }, "Jobs")),
    canSubmit(caller) && dropZone(go),
    el("form", { class: "filters", onsubmit: (event) => event.preventDefault() },
        selectField("Status", [["", "any"], ...STATUSES.map((one) => [one, one])], status, (chosen) => move({ status: chosen })),
        selectField("Since", SINCE_OPTIONS, filters.since, (chosen) => move({ since: chosen })),
        el("label", {}, "Name contains",
          el("input", { type: "search", name: "name", value: name, onchange: (event) => move({ name: event.target.value.trim() }) }))),
    view.note, view.table, view.foot,
  );
  fill(view.note, loadingMessage("jobs"));
  repeat(signal, (inner) => watch(view, inner), (error) => {
    if (view.table.hidden) fill(view.note, errorBox(error));
    else failed(error);
  });
}

// Show the newest jobs, and refresh when one of them has changed, or every few seconds when all have ended.
async function watch(view, signal) {
  await refresh(view, signal);
  const moving = view.jobs.find((one) => one.counts.queued + one.counts.running);
  if (!moving) return pause(IDLE_SECONDS, signal);
  await untilChanged(moving.id, signal);
  return pause(MIN_SECONDS, signal);
}

// Wait until a job has changed, or for a few seconds, since there may be new jobs.
async function untilChanged(id, signal) {
  const moved = new AbortController();
  const enough = AbortSignal.any([moved.signal, AbortSignal.timeout(IDLE_SECONDS * 1000)]);
  let looks = 0;
  const changed = () => (looks += 1) > 1 && moved.abort();
  await follow(id, changed, AbortSignal.any([signal, enough])).catch((error) => {
    if (!enough.aborted) throw error;
  });
}

function load(view, more, signal) {
  return page("v1/jobs", query({ limit: ROWS, ...view.filters, ...more }), signal);
}

// Load what is shown: the first page or, after "Show more", all jobs since the oldest of them. A job that is not among
// them any more was deleted, or has left the status that is shown.
async function refresh(view, signal) {
  const { oldest } = view;
  const all = [];
  let cursor = null;
  do {
    const { rows, next } = await load(view, oldest ? { limit: MAX_ROWS, since: oldest, cursor } : {}, signal);
    all.push(...rows.jobs);
    cursor = next;
  } while (oldest && cursor && all.length < MAX_ROWS);
  if (oldest !== view.oldest) return; // a page was added meanwhile
  view.jobs = all;
  if (!oldest || cursor) view.next = cursor;
  if (oldest && cursor) view.oldest = all.at(-1).created_at; // those beyond it are behind "Show more" again
  draw(view);
}

function draw(view) {
  const focused = document.activeElement?.getAttribute("href");
  fill(view.rows, view.jobs.map(row));
  if (focused) view.rows.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus();
  view.table.hidden = !view.jobs.length;
  fill(view.note, view.jobs.length ? null : nothing(view.filters));
  fill(view.foot, view.next && button("Show more", (event) => more(view, event.target)));
}

function nothing({ status, ...others }) {
  if (Object.values(others).some(Boolean)) return emptyState("There are no matching jobs.");
  if (status) return emptyState(`No jobs are ${status}.`);
  return emptyState("There are no jobs yet. Drop images above, or submit a folder from a terminal:",
    el("pre", {}, "sortbelt enqueue FOLDER"));
}

async function more(view, pressed) {
  pressed.disabled = true;
  try {
    const { rows, next } = await load(view, { cursor: view.next }, view.signal);
    const known = new Set(view.jobs.map((one) => one.id));
    view.jobs.push(...rows.jobs.filter((one) => !known.has(one.id)));
    view.oldest = view.jobs.at(-1)?.created_at ?? null;
    view.next = next;
    draw(view);
  } catch (error) {
    if (!view.signal.aborted) fill(view.foot, errorBox(error, () => more(view, pressed)));
  }
}

function row(job) {
  const bar = countsBar();
  bar.update(job.counts);
  const link = el("a", { href: `#/jobs/${job.id}`, title: job.id }, job.name ?? shortId(job.id));
  return el("tr", {},
    el("td", {}, jobBadge(job), !job.sealed && !job.finished_at && el("span", { class: "hint" }, " open")),
    el("td", {}, link), el("td", {}, time(job.created_at)),
    el("td", { class: "wide" }, bar.node, el("span", { class: "hint" }, progressText(job.counts))),
    el("td", { class: "hint" }, job.owner),
    el("td", { class: "hint" }, job.model),
  );
}

function progressText(counts) {
  const ended = counts.total - counts.queued - counts.running;
  const lost = counts.total - counts.queued - counts.running - counts.done;
  const got = ended === counts.total ? imageCount(counts.total) : `${ended} of ${imageCount(counts.total)}`;
  return lost ? `${got}, ${lost} without a label` : got;
}
