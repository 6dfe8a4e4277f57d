// The list of models and their versions.

import { badge, el, empty, fill, loading, time, trouble } from "./dom.js";
import { json } from "./http.js";

const HEADS = ["Stage", "Model", "Labels", "Workers", "Promoted"];

export async function models(main, { signal }) {
  const body = el("div", {}, loading("the models"));
  fill(main, el("div", { class: "head" }, el("h1", { tabindex: "-1" }, "Models")), body);
  try {
    const { models: all } = await json("v1/models", { signal });
    const head = el("thead", {}, el("tr", {}, HEADS.map((name) => el("th", { scope: "col" }, name))));
    fill(body, all.length ? el("table", { class: "models" }, head, el("tbody", {}, all.map(row))) : empty("No worker has registered a model yet."));
  } catch (error) {
    if (!signal.aborted) fill(body, trouble(error, () => models(main, { signal })));
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
  const refused = model.refused_by.map(({ worker, reason }) => el("p", { class: "wrong" }, `${worker} cannot load it: ${reason}`));
  return [`${model.served_by.length} serving`, refused];
}
