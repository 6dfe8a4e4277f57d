// Results across jobs.

import { button, choice, el, fill, SINCE } from "./dom.js";
import { download, json } from "./http.js";
import { ORDERS, Results } from "./results.js";

const FIELDS = ["label", "min_confidence", "max_confidence", "min_familiarity", "max_familiarity", "status", "name", "error", "model", "owner", "job", "since", "until", "reviewed", "custom_id", "order"];

export function search(main, { params, signal, holder, go, failed }) {
  const query = Object.fromEntries(FIELDS.map((field) => [field, params.get(field) ?? ""]));
  const results = new Results(signal, { holder, go });
  const labels = el("datalist", { id: "labels" });
  const versions = el("datalist", { id: "versions" });
  const move = (changed) => go("/results", { ...query, ...changed });
  const text = (label, field, more = {}) => el("label", {}, label,
    el("input", { name: field, value: query[field], onchange: (event) => move({ [field]: event.target.value.trim() }), ...more }));
  const share = { type: "number", min: 0, max: 1, step: "any", inputmode: "decimal" };
  const csv = new URLSearchParams(Object.entries(query).filter(([, value]) => value));
  fill(main,
    el("div", { class: "head" }, el("h1", { tabindex: "-1" }, "Results"),
      button("Download CSV", (event) => fetched(event.target, csv, signal, failed))),
    el("form", { class: "filters", onsubmit: (event) => event.preventDefault() },
      text("Label", "label", { list: "labels", placeholder: "any", autocomplete: "off" }), labels,
      text("Confidence from", "min_confidence", { ...share, placeholder: "0" }),
      text("Confidence to", "max_confidence", { ...share, placeholder: "1" }),
      text("Familiarity from", "min_familiarity", { ...share, placeholder: "0" }),
      text("Familiarity to", "max_familiarity", { ...share, placeholder: "1" }),
      choice("Status", [["", "any"], ["done"], ["failed"], ["cancelled"], ["expired"]].map(([a, b]) => [a, b ?? a]),
        query.status, (status) => move({ status })),
      text("Name contains", "name", { type: "search" }),
      text("Error", "error", { placeholder: "any code", autocomplete: "off" }),
      choice("Reviewed", [["", "any"], ["true", "yes"], ["false", "no"]], query.reviewed, (reviewed) => move({ reviewed })),
      text("Model", "model", { placeholder: "NAME@VERSION", autocomplete: "off", list: "versions" }), versions,
      holder.role !== "submit" && text("Key", "owner", { placeholder: "any" }),
      choice("Since", SINCE.some(([one]) => one === query.since) ? SINCE : [[query.since, query.since], ...SINCE], query.since, (since) => move({ since })),
      query.until && text("Until", "until"),
      query.job && text("Job", "job"),
      query.custom_id && text("Your identifier", "custom_id"),
      choice("Order", ORDERS, query.order, (order) => move({ order })),
      FIELDS.some((field) => query[field]) && button("Clear", () => go("/results"), { class: "quiet" }),
    ),
    results.node,
  );
  results.load(query, "There are no matching results.");
  offer(labels, versions, signal);
}

// Suggest the labels and the versions of the models: counting those of the results may take long.
async function offer(labels, versions, signal) {
  const { models } = await json("v1/models", { signal }).catch(() => ({ models: [] }));
  fill(labels, [...new Set(models.flatMap((one) => one.labels))].map((label) => el("option", { value: label })));
  fill(versions, models.map((one) => el("option", { value: `${one.name}@${one.version}` })));
}

export async function fetched(pressed, query, signal, failed) {
  pressed.disabled = true;
  try {
    await download(`v1/results?${query}`, "results.csv", signal);
  } catch (error) {
    failed(error);
  } finally {
    pressed.disabled = false;
  }
}
