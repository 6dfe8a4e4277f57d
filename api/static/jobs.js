// The jobs, newest first; and a place to put pictures.

import { badge, button, choice, el, empty, fill, loading, pictures, short, time, trouble } from "./dom.js";
import { countsBar } from "./charts.js";
import { follow, page } from "./http.js";
import { pause, repeat } from "./shown.js";
import { dropZone } from "./upload.js";

const ROWS = 30;
const IDLE_SECONDS = 10;
const LEAST_SECONDS = 1;
const STATUSES = ["queued", "running", "done", "failed", "cancelled", "expired"];

export function jobs(main, { params, signal, holder, go, failed }) {
  const status = params.get("status") ?? "";
  const view = { status, signal, older: [], note: el("div"), rows: el("tbody"), foot: el("div", { class: "foot" }) };
  view.table = el("table", { class: "jobs" },
    el("thead", {}, el("tr", {}, ["Status", "Job", "Sent", "Pictures", "Model"].map((name) => el("th", { scope: "col" }, name)))), view.rows);
  view.table.hidden = true;
  fill(main,
    el("div", { class: "head" }, el("h1", { tabindex: "-1" }, "Jobs"),
      choice("Status", [["", "any"], ...STATUSES.map((one) => [one, one])], status, (chosen) => go("/", { status: chosen }))),
    holder.role !== "read" && dropZone(go),
    view.note, view.table, view.foot,
  );
  fill(view.note, loading("jobs"));
  repeat(signal, (inner) => watch(view, inner), (error) => {
    if (view.table.hidden) fill(view.note, trouble(error));
    else failed(error);
  });
}

// Show the newest, and again when one of them moves; while all are over, now and then.
async function watch(view, signal) {
  const { rows, next } = await page("v1/jobs", query(view), signal);
  show(view, rows.jobs, next);
  const moving = rows.jobs.find((one) => one.counts.queued + one.counts.running);
  if (!moving) return pause(IDLE_SECONDS, signal);
  await moves(moving.id, signal);
  return pause(LEAST_SECONDS, signal);
}

// Wait until a job is another than it is now, or for a while: others may have come.
async function moves(id, signal) {
  const moved = new AbortController();
  const enough = AbortSignal.any([moved.signal, AbortSignal.timeout(IDLE_SECONDS * 1000)]);
  let looks = 0;
  const changed = () => (looks += 1) > 1 && moved.abort();
  await follow(id, changed, AbortSignal.any([signal, enough])).catch((error) => {
    if (!enough.aborted) throw error;
  });
}

function query(view, cursor) {
  const given = { limit: ROWS, status: view.status, cursor };
  return new URLSearchParams(Object.entries(given).filter(([, value]) => value));
}

function show(view, newest, next) {
  const known = new Set(newest.map((one) => one.id));
  // What has slid off the first page meanwhile stays, above what was asked for further down.
  const slid = view.older.length ? (view.newest ?? []).filter((one) => !known.has(one.id)) : [];
  view.older = [...slid, ...view.older].filter((one) => !known.has(one.id));
  view.newest = newest;
  if (!view.older.length) view.next = next;
  draw(view);
}

function draw(view) {
  const all = [...view.newest, ...view.older];
  const focused = document.activeElement?.getAttribute("href");
  fill(view.rows, all.map(row));
  if (focused) view.rows.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus();
  view.table.hidden = !all.length;
  fill(view.note, all.length ? null : nothing(view.status));
  fill(view.foot, view.next && button("Show more", (event) => more(view, event.target)));
}

function nothing(status) {
  if (status) return empty(`There are no jobs that are ${status}.`);
  return empty("There are no jobs yet. Put some pictures above, or send a folder from a terminal:",
    el("pre", {}, "sortbelt enqueue FOLDER"));
}

async function more(view, pressed) {
  pressed.disabled = true;
  try {
    const { rows, next } = await page("v1/jobs", query(view, view.next), view.signal);
    view.older.push(...rows.jobs);
    view.next = next;
    draw(view);
  } catch (error) {
    if (!view.signal.aborted) fill(view.foot, trouble(error, () => more(view, pressed)));
  }
}

function row(told) {
  const bar = countsBar();
  bar.update(told.counts);
  const link = el("a", { href: `#/jobs/${told.id}`, title: told.id }, short(told.id));
  return el("tr", {},
    el("td", {}, badge(told.status), !told.sealed && !told.finished_at && el("span", { class: "hint" }, " open")),
    el("td", {}, link), el("td", {}, time(told.created_at)),
    el("td", { class: "wide" }, bar.node, el("span", { class: "hint" }, counted(told.counts))),
    el("td", { class: "hint" }, told.model),
  );
}

function counted(counts) {
  const ended = counts.total - counts.queued - counts.running;
  const lost = counts.total - counts.queued - counts.running - counts.done;
  const got = ended === counts.total ? pictures(counts.total) : `${ended} of ${pictures(counts.total)}`;
  return lost ? `${got}, ${lost} without a label` : got;
}
