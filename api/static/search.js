// Results across jobs, and the filters of results.

import { button, el, fill, selectField, SINCE_OPTIONS } from "./dom.js";
import { downloadCsv, json, query } from "./http.js";
import { Results } from "./results.js";

const FIELDS = ["label", "min_confidence", "max_confidence", "min_familiarity", "max_familiarity", "status", "name", "error", "model", "owner", "job", "since", "until", "reviewed", "custom_id", "order"];
const STATUSES = ["done", "failed", "cancelled", "expired"];
const ORDERS = [["", "newest first"], ["confidence", "least confident first"], ["familiarity", "least familiar first"]];
const SHARE = { type: "number", min: 0, max: 1, step: "any", inputmode: "decimal" };

export function search(main, context) {
  const filters = readFilters(context.params);
  const results = new Results(context.signal, context);
  fill(main,
    el("div", { class: "head" }, el("h1", { tabindex: "-1" }, "Results"), csvButton(filters, context)),
    filterBar(filters, "/results", context),
    results.node,
  );
  results.load(filters, "There are no matching results.");
}

// The filters of a list of results, of one job or of all, that are in the address.
export function readFilters(params) {
  return Object.fromEntries(FIELDS.map((field) => [field, params.get(field) ?? ""]));
}

// The form, which goes to the view at `path` with the changed filters.
export function filterBar(filters, path, { signal, caller, go }) {
  const labels = el("datalist", { id: "labels" });
  const versions = el("datalist", { id: "versions" });
  const move = (changed) => go(path, { ...filters, ...changed });
  const text = (label, field, more = {}) => el("label", {}, label,
    el("input", { name: field, value: filters[field], onchange: (event) => move({ [field]: event.target.value.trim() }), ...more }));
  loadSuggestions(labels, versions, signal);
  return el("form", { class: "filters", onsubmit: (event) => event.preventDefault() },
    text("Label", "label", { list: "labels", placeholder: "any", autocomplete: "off" }), labels,
    text("Confidence from", "min_confidence", { ...SHARE, placeholder: "0" }),
    text("Confidence to", "max_confidence", { ...SHARE, placeholder: "1" }),
    text("Familiarity from", "min_familiarity", { ...SHARE, placeholder: "0" }),
    text("Familiarity to", "max_familiarity", { ...SHARE, placeholder: "1" }),
    selectField("Status", [["", "any"], ...STATUSES.map((one) => [one, one])], filters.status, (status) => move({ status })),
    text("Name contains", "name", { type: "search" }),
    text("Error", "error", { placeholder: "any code", autocomplete: "off" }),
    selectField("Reviewed", [["", "any"], ["true", "yes"], ["false", "no"]], filters.reviewed, (reviewed) => move({ reviewed })),
    text("Model", "model", { placeholder: "NAME@VERSION", autocomplete: "off", list: "versions" }), versions,
    path === "/results" && caller.role !== "submit" && text("Key", "owner", { placeholder: "any" }),
    selectField("Since", SINCE_OPTIONS.some(([one]) => one === filters.since) ? SINCE_OPTIONS : [[filters.since, filters.since], ...SINCE_OPTIONS], filters.since, (since) => move({ since })),
    filters.until && text("Until", "until"),
    filters.job && text("Job", "job"),
    filters.custom_id && text("Your identifier", "custom_id"),
    selectField("Order", ORDERS, filters.order, (order) => move({ order })),
    Object.values(filters).some(Boolean) && button("Clear", () => go(path), { class: "quiet" }),
  );
}

// Suggest the labels and the versions of the models: counting those of the results may take long.
export async function loadSuggestions(labels, versions, signal) {
  const { models } = await json("v1/models", { signal }).catch(() => ({ models: [] }));
  fill(labels, [...new Set(models.flatMap((one) => one.labels))].map((label) => el("option", { value: label })));
  fill(versions, models.map((one) => el("option", { value: `${one.name}@${one.version}` })));
}

// Download the results that match the filters.
export function csvButton(filters, { signal, failed }) {
  return button("Download CSV", async (event) => {
    event.target.disabled = true;
    try {
      await downloadCsv(`v1/results?${query(filters)}`, "results.csv", signal);
    } catch (error) {
      failed(error);
    } finally {
      event.target.disabled = false;
    }
  });
}
