// Results across jobs.

import { button, choice, el, fill } from "./dom.js";
import { download, json } from "./http.js";
import { Results } from "./results.js";

const FIELDS = ["label", "min_confidence", "max_confidence", "status", "name", "error", "order"];

export function search(main, { params, signal, holder, go, failed }) {
  const query = Object.fromEntries(FIELDS.map((field) => [field, params.get(field) ?? ""]));
  const results = new Results(signal, holder);
  const labels = el("datalist", { id: "labels" });
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
      choice("Status", [["", "any"], ["done"], ["failed"], ["cancelled"], ["expired"]].map(([a, b]) => [a, b ?? a]),
        query.status, (status) => move({ status })),
      text("Name contains", "name", { type: "search" }),
      query.error && text("Error", "error"),
      choice("Order", [["", "newest first"], ["confidence", "least confident first"]], query.order,
        (order) => move({ order })),
      FIELDS.some((field) => query[field]) && button("Clear", () => go("/results"), { class: "quiet" }),
    ),
    results.node,
  );
  results.load(query, "There are no such results.");
  offer(labels, signal);
}

// What the models give: to count what they have given may take a while.
async function offer(labels, signal) {
  const { models } = await json("v1/models", { signal }).catch(() => ({ models: [] }));
  fill(labels, [...new Set(models.flatMap((one) => one.labels))].map((label) => el("option", { value: label })));
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
