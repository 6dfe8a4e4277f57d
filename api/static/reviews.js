// What the reviews say of each version: accuracy, labels, confusions and calibration.

import { badge, el, emptyState, errorBox, fill, loadingMessage, number, percent } from "./dom.js";
import { json } from "./http.js";

export async function reviews(main, { params, signal, caller }) {
  const body = el("div", { class: "versions" }, loadingMessage("the reviews"));
  fill(main,
    el("div", { class: "head" }, el("h1", { tabindex: "-1" }, "Reviews"), caller.role !== "read" && el("a", { href: "#/review" }, "Review images")),
    el("p", { class: "hint" }, "Shares are estimated from images that were reviewed at random, with 95 % intervals. Other reviews are counted only: their images were chosen because they looked doubtful."),
    body);
  try {
    const { versions } = await json(`v1/reviews/stats?${params}`, { signal });
    fill(body, versions.length ? versions.map(version) : emptyState("There are no reviews yet."));
  } catch (error) {
    if (!signal.aborted) fill(body, errorBox(error, () => reviews(main, { params, signal, caller })));
  }
}

function version(one) {
  const strategies = Object.entries(one.by_strategy).map(([name, count]) => `${number(count)} ${name.replaceAll("_", " ")}`);
  return el("section", { class: "panel" },
    el("div", { class: "head" }, el("h2", {}, `${one.model} ${one.version}`), one.stage && badge(one.stage)),
    el("p", {}, el("b", {}, number(one.reviewed)), " reviewed: ", strategies.join(", "), ". ",
      one.accuracy ? ["Right: ", el("b", {}, estimate(one.accuracy)), "."] : "None at random yet, so that nothing can be estimated."),
    table("Labels", ["Label", "Precision", "Recall"], one.classes.map((each) => [each.label, estimate(each.precision), estimate(each.recall)])),
    table("Confusions", ["Model", "Review", "Images", "Of these at random"],
      one.confusions.map((each) => [each.model, each.review ?? "none of these", number(each.count), number(each.in_sample)])),
    table("Calibration", ["Confidence", "Mean confidence", "Right"],
      one.calibration.map((bin) => [`${percent(bin.low)} to ${percent(bin.high)}`, percent(bin.mean_confidence), estimate(bin.accuracy)])),
    one.calibration_error !== null && el("p", {}, `Confidence and accuracy differ by ${percent(one.calibration_error)} on average.`));
}

function table(title, heads, rows) {
  if (!rows.length) return null;
  return [el("h3", {}, title), el("table", { class: "plain", "aria-label": title },
    el("thead", {}, el("tr", {}, heads.map((name) => el("th", { scope: "col" }, name)))),
    el("tbody", {}, rows.map((cells) => el("tr", {}, cells.map((cell, index) => el("td", { "data-head": heads[index] }, cell))))))];
}

function estimate(share) {
  return share ? `${percent(share.value)} (${percent(share.low)} to ${percent(share.high)}, ${number(share.count)})` : "–";
}
