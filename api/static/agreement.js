// How two versions of a model, or two jobs, agree: the pairs of their labels.

import { el, emptyState, errorBox, fill, imageCount, loadingMessage, number, percent, selectField, shortId } from "./dom.js";
import { barChart } from "./charts.js";
import { json } from "./http.js";

const JOBS = 20;

// Two menus of versions and recent jobs, and the pairs of what is chosen.
export async function agreement(panel, { a, b, move, signal }) {
  const body = el("div");
  const menus = el("div", { class: "filters" });
  fill(panel, el("h2", {}, "Agreement of two versions or jobs"), menus, body);
  const [{ models }, { jobs }] = await Promise.all([
    json("v1/models", { signal }).catch(() => ({ models: [] })),
    json(`v1/jobs?limit=${JOBS}`, { signal }).catch(() => ({ jobs: [] })),
  ]);
  if (signal.aborted) return;
  const offered = [
    ["", "choose one"],
    ...models.map((one) => [`version ${one.name}@${one.version}`, `${one.name}@${one.version}`]),
    ...jobs.map((one) => [`job ${one.id}`, `Job ${one.name ?? shortId(one.id)}, ${one.model}`]),
  ];
  for (const chosen of [a, b]) {
    if (chosen && !offered.some(([value]) => value === chosen)) offered.push([chosen, chosen]);
  }
  fill(menus, selectField("First", offered, a, (value) => move({ a: value })), selectField("Second", offered, b, (value) => move({ b: value })));
  const [[kind, first], [otherKind, second]] = [a.split(" "), b.split(" ")];
  if (!first || !second) return fill(body, el("p", { class: "hint" }, "Versions are compared over the images that both have classified, jobs over images of the same name."));
  if (kind !== otherKind) return fill(body, el("p", { class: "error" }, "Choose two versions, or two jobs."));
  show(body, kind, first, second, signal);
}

async function show(body, kind, first, second, signal) {
  fill(body, loadingMessage("the pairs"));
  try {
    const found = kind === "job"
      ? await json(`v1/jobs/${encodeURIComponent(first)}/diff/${encodeURIComponent(second)}/pairs`, { signal })
      : await json(`v1/models/compare?${new URLSearchParams({ a: first, b: second, limit: 1 })}`, { signal });
    if (!found.compared) return fill(body, emptyState("They have no image in common."));
    fill(body, sentence(found), pairs(found.pairs ?? found.matrix, kind === "job" ? { job: first } : { model: first }));
  } catch (error) {
    if (!signal.aborted) fill(body, errorBox(error, () => show(body, kind, first, second, signal)));
  }
}

function sentence({ compared, agreeing, reviewed }) {
  const parts = [el("b", {}, percent(agreeing / compared)), ` of ${imageCount(compared)} have the same label. `];
  if (reviewed?.compared) {
    const verdict = { a: "the first is better", b: "the second is better" }[reviewed.better] ?? "no difference is proven";
    parts.push(`Of ${number(reviewed.compared)} reviewed, the first is right on ${number(reviewed.a_right)}, the second on ${number(reviewed.b_right)}: ${verdict}.`);
  }
  return el("p", {}, parts);
}

// The pairs of different labels, each with a link to the results with the first of them.
function pairs(all, source) {
  const different = all.filter((one) => one.a !== one.b).sort((one, other) => other.count - one.count);
  if (!different.length) return null;
  return barChart(different.map((one) => ({
    name: `${one.a ?? "no label"} → ${one.b ?? "no label"}`,
    href: one.a === null ? null : `#/results?${new URLSearchParams({ ...source, label: one.a })}`,
    count: one.count,
  })));
}
