// How many results there are of each kind.

import { choice, el, empty, fill, loading, number, percent, trouble } from "./dom.js";
import { shares } from "./charts.js";
import { json } from "./http.js";

const GROUPS = ["label", "status", "error", "model", "day", "hour"];
const SINCE = [["", "ever"], ["1", "24 hours"], ["7", "7 days"], ["30", "30 days"]];
const LINKED = ["label", "status", "error"];

export function stats(main, { params, signal, go }) {
  const group = GROUPS.includes(params.get("group")) ? params.get("group") : "label";
  const days = params.get("days") ?? "";
  const move = (changed) => go("/stats", { group, days, ...changed });
  const table = el("section", { class: "panel", "aria-label": "Counts" }, loading("the counts"));
  fill(main,
    el("div", { class: "head" }, el("h1", { tabindex: "-1" }, "Statistics")),
    el("form", { class: "filters", onsubmit: (event) => event.preventDefault() },
      choice("Results by", GROUPS.map((one) => [one, one]), group, (chosen) => move({ group: chosen })),
      choice("Since", SINCE, days, (chosen) => move({ days: chosen })),
    ),
    table,
  );
  show(table, group, days, signal);
}

async function show(table, group, days, signal) {
  const query = new URLSearchParams({ group });
  if (days) query.set("since", new Date(Date.now() - Number(days) * 86400000).toISOString());
  try {
    const { stats: rows } = await json(`v1/stats?${query}`, { signal });
    const total = rows.reduce((all, row) => all + row.count, 0);
    const shown = rows.map((row) => ({
      name: row.key ?? `no ${group}`,
      href: row.key !== null && LINKED.includes(group) ? `#/results?${new URLSearchParams({ [group]: row.key })}` : null,
      count: row.count,
      shown: row.confidence === null ? number(row.count) : `${number(row.count)}, on average ${percent(row.confidence)} sure`,
    }));
    fill(table, total ? [el("p", {}, el("b", {}, number(total)), total === 1 ? " result" : " results"), shares(shown)] : empty("There are no results of that time."));
  } catch (error) {
    if (!signal.aborted) fill(table, trouble(error, () => show(table, group, days, signal)));
  }
}
