// Statistics of results: counts by one property or two, and how two versions or jobs agree.

import { el, emptyState, errorBox, fill, imageCount, loadingMessage, number, percent, selectField, SINCE_OPTIONS } from "./dom.js";
import { stackedBarChart } from "./charts.js";
import { agreement } from "./agreement.js";
import { json, query } from "./http.js";
import { loadSuggestions } from "./search.js";

const GROUPS = ["label", "status", "error", "model", "confidence", "familiarity", "day", "hour"];
const BINS = ["0", ...Array.from({ length: 9 }, (_, tenth) => `0.${tenth + 1}`)];
const DAY = 86400000;
const FILTERS = ["label", "status", "model", "job", "owner", "since"];

export function stats(main, { params, signal, go, caller }) {
  const group = known(params.get("group")) ?? "label";
  const by = known(params.get("by") ?? (group === "label" ? null : "label"));
  const second = by === group ? "" : by ?? "";
  const filters = Object.fromEntries(FILTERS.map((name) => [name, params.get(name) ?? ""]));
  const chosen = { group, by: params.get("by") ?? second, ...filters, a: params.get("a") ?? "", b: params.get("b") ?? "" };
  const move = (changed) => go("/stats", { ...chosen, ...changed });
  const text = (label, field) => el("label", {}, label,
    el("input", { name: field, value: filters[field], placeholder: "any", autocomplete: "off", list: `stats-${field}`, onchange: (event) => move({ [field]: event.target.value.trim() }) }));
  const [models, labels] = ["model", "label"].map((field) => el("datalist", { id: `stats-${field}` }));
  const chart = el("section", { class: "panel", "aria-label": "Counts" }, loadingMessage("the counts"));
  const pairs = el("section", { class: "panel", "aria-label": "Agreement" });
  fill(main,
    el("div", { class: "head" }, el("h1", { tabindex: "-1" }, "Statistics")),
    el("form", { class: "filters", onsubmit: (event) => event.preventDefault() },
      selectField("Results by", GROUPS.map((one) => [one, one]), group, (value) => move({ group: value, by: second === value ? "none" : chosen.by })),
      selectField("Divided by", [["none", "nothing"], ...GROUPS.filter((one) => one !== group).map((one) => [one, one])], second || "none", (value) => move({ by: value })),
      text("Model", "model"), models, text("Label", "label"), labels,
      selectField("Since", SINCE_OPTIONS.some(([one]) => one === filters.since) ? SINCE_OPTIONS : [[filters.since, filters.since], ...SINCE_OPTIONS], filters.since, (value) => move({ since: value })),
      filters.status && text("Status", "status"), filters.job && text("Job", "job"), filters.owner && text("Key", "owner"),
    ),
    chart, caller.role !== "submit" && pairs,
  );
  show(chart, { group, by: second, filters }, signal);
  loadSuggestions(labels, models, signal);
  if (caller.role !== "submit") agreement(pairs, { a: chosen.a, b: chosen.b, move, signal });
}

const known = (name) => (GROUPS.includes(name) ? name : null);

async function show(chart, { group, by, filters }, signal) {
  try {
    const { stats: rows } = await json(`v1/stats?${query({ group, by, ...filters })}`, { signal });
    const total = rows.reduce((all, row) => all + row.count, 0);
    if (!total) return fill(chart, emptyState("There are no matching results."));
    const bars = gather(rows, group, by, filters);
    fill(chart, el("p", {}, el("b", {}, number(total)), total === 1 ? " result" : " results", by && `, divided by ${by}`), stackedBarChart(bars));
  } catch (error) {
    if (!signal.aborted) fill(chart, errorBox(error, () => show(chart, { group, by, filters }, signal)));
  }
}

// One bar for each group, with a part for each value of the second property; ranges without results are empty bars.
function gather(rows, group, by, filters) {
  const bars = new Map(isRange(group) ? BINS.map((bin) => [bin, []]) : []);
  for (const row of rows) bars.set(row.key, [...(bars.get(row.key) ?? []), row]);
  const order = [...bars].map(([key, parts]) => ({ key, parts, count: parts.reduce((all, one) => all + one.count, 0) }));
  if (!isRange(group) && !["day", "hour"].includes(group)) order.sort((one, other) => other.count - one.count);
  return order.map(({ key, parts, count }) => ({
    name: title(group, key),
    href: count ? link({ ...filters, ...condition(group, key) }, key) : null,
    count,
    shown: shown(parts, count),
    parts: by ? parts.map((one) => ({
      name: `${title(by, one.by)}: ${imageCount(one.count)}`, series: title(by, one.by), count: one.count,
      href: one.by === null || key === null ? null : link({ ...filters, ...condition(group, key), ...condition(by, one.by) }, key),
    })) : [],
  }));
}

function shown(parts, count) {
  const sure = parts.filter((one) => one.confidence !== null);
  const weight = sure.reduce((all, one) => all + one.count, 0);
  const mean = sure.reduce((all, one) => all + one.confidence * one.count, 0) / weight;
  return weight ? `${number(count)}, mean confidence ${percent(mean)}` : number(count);
}

const isRange = (group) => ["confidence", "familiarity"].includes(group);

function title(group, key) {
  if (key === null) return `no ${group}`;
  if (!isRange(group)) return key;
  return `${key} to ${(Number(key) + 0.1).toFixed(1)}`;
}

// The filters that select a group; those of a null key do not exist.
function condition(group, key) {
  if (key === null) return {};
  if (group === "model") return { model: key.replace(/ (?=[^ ]*$)/, "@") };
  // The filters include both ends of a range.
  if (isRange(group)) return { [`min_${group}`]: key, [`max_${group}`]: key === "0.9" ? "1" : (Number(key) + 0.1 - 1e-9).toFixed(9) };
  if (group === "day") return { since: `${key}T00:00:00Z`, until: new Date(Date.parse(`${key}T00:00:00Z`) + DAY).toISOString() };
  if (group === "hour") return { since: key, until: new Date(Date.parse(key) + DAY / 24).toISOString() };
  return { [group]: key };
}

function link(conditions, key) {
  if (key === null) return null;
  return `#/results?${query(conditions)}`;
}
