// The list of models and their versions.

import { badge, el, emptyState, errorBox, fill, loadingMessage, time } from "./dom.js";
import { json } from "./http.js";

const HEADS = ["Stage", "Model", "Labels", "Workers", "Promoted"];

export async function models(main, { signal }) {
  const body = el("div", {}, loadingMessage("the models"));
  fill(main, el("div", { class: "head" }, el("h1", { tabindex: "-1" }, "Models")), body);
  try {
    const { models: all } = await json("v1/models", { signal });
    const head = el("thead", {}, el("tr", {}, HEADS.map((name) => el("th", { scope: "col" }, name))));
    fill(body, all.length ? el("table", { class: "models" }, head, el("tbody", {}, all.map(row))) : emptyState("No worker has registered a model yet."));
  } catch (error) {
    if (!signal.aborted) fill(body, errorBox(error, () => models(main, { signal })));
  }
}

function row(model) {
  return el("tr", {},
    el("td", {}, badge(model.stage)),
    el("td", {}, el("b", {}, model.name), ` ${model.version}`, el("br"), el("code", { class: "hint", title: model.digest }, model.digest.slice(0, 12))),
    el("td", {}, model.labels.join(", ")),
    el("td", {}, served(model)),
    el("td", {}, model.promoted_at ? time(model.promoted_at) : "–"),
  );
}

function served(model) {
  const refused = model.refused_by.map(({ worker, reason }) => el("p", { class: "error" }, `${worker} cannot load it: ${reason}`));
  return [`${model.served_by.length} serving`, refused];
}
