// Several images selected in a list: review, retry, run with another model, download or delete them.

import { button, canSubmit, el, fill, imageCount, number, showMessage } from "./dom.js";
import { idempotencyKey, json, jsonBody, page, post, query, save } from "./http.js";

const MAX_SELECTED = 10000;
const PER_REQUEST = 1000; // as many images as the server takes in one request
const NONE = " none"; // no label begins with a space

export class Selection {
  // `results` is the list, with its rows and its query.
  constructor(results) {
    this.results = results;
    this.ids = new Set();
    this.last = null; // the image that was clicked last, where a range begins
    this.bar = el("section", { class: "selection", "aria-label": "Selection", hidden: true });
    this.options = { labels: [], models: [] };
  }

  // The checkbox of a card.
  box(row) {
    const input = el("input", { type: "checkbox", class: "select-box", "aria-label": `Select ${row.image}`, "data-id": row.id });
    input.checked = this.ids.has(row.id);
    input.addEventListener("click", (event) => this.pick(row.id, input.checked, event.shiftKey));
    return input;
  }

  pick(id, chosen, asRange) {
    const order = this.results.rows.map((row) => row.id);
    const [from, to] = [asRange ? order.indexOf(this.last) : -1, order.indexOf(id)];
    const range = from < 0 ? [id] : order.slice(Math.min(from, to), Math.max(from, to) + 1);
    for (const one of range) this.ids[chosen ? "add" : "delete"](one);
    this.last = id;
    this.show();
  }

  async show() {
    for (const input of this.results.grid.querySelectorAll(".select-box")) input.checked = this.ids.has(input.dataset.id);
    const wasHidden = this.bar.hidden;
    this.bar.hidden = !this.ids.size;
    if (!this.bar.hidden && wasHidden) await this.load();
    if (!this.bar.hidden) this.draw();
  }

  // The labels and models that are offered.
  async load() {
    const { models } = await json("v1/models", { signal: this.results.signal }).catch(() => ({ models: [] }));
    const live = models.filter((one) => one.stage === "live");
    this.options = { labels: [...new Set(live.flatMap((one) => one.labels))], models: live.map((one) => one.name) };
  }

  draw() {
    const { caller } = this.results;
    const act = (work) => (event) => this.run(event, work);
    fill(this.bar,
      el("b", { role: "status" }, `${number(this.ids.size)} selected`),
      button("All that match", act(() => this.all())),
      button("Clear", () => this.clear(), { class: "quiet" }),
      caller.role !== "read" && this.menu("Review as", [...this.options.labels.map((label) => [label, label]), [NONE, "none of these"]],
        (label) => this.review(label === NONE ? { verdict: "none_of_these" } : { label })),
      canSubmit(caller) && [
        button("Retry", act(() => this.resubmit({ fresh: true }))),
        this.menu("Run with", this.options.models.map((name) => [name, name]), (model) => this.resubmit({ model })),
      ],
      caller.role !== "read" && button("Download ZIP", act(() => this.download())),
      canSubmit(caller) && button("Delete", act(() => this.remove())),
    );
  }

  menu(label, options, work) {
    if (!options.length) return null;
    const choose = (event) => event.target.value && this.run(event, () => work(event.target.value));
    return el("select", { "aria-label": label, onchange: choose },
      el("option", { value: "" }, `${label} …`), options.map(([value, shown]) => el("option", { value }, shown)));
  }

  async run(event, work) {
    event.target.disabled = true;
    try {
      await work();
    } catch (error) {
      if (!this.results.signal.aborted) showMessage(error.message);
    }
    this.show();
  }

  clear() {
    this.ids.clear();
    this.show();
  }

  async all() {
    for (let cursor = null; this.ids.size < MAX_SELECTED; ) {
      const params = query({ ...this.results.query, limit: PER_REQUEST, cursor });
      const { rows, next } = await page("v1/results", params, this.results.signal);
      for (const row of rows.results) this.ids.add(row.id);
      if (!next) return;
      cursor = next;
    }
    showMessage(`More than ${number(MAX_SELECTED)} images match; these are selected.`);
  }

  async review(verdict) {
    const { failed } = await this.send("review", verdict);
    await this.results.refresh();
    showMessage(`${imageCount(this.ids.size - failed.length)} reviewed.${failureText(failed)}`);
  }

  async resubmit(options) {
    const sent = jsonBody({ images: this.idsForOneRequest(), ...options });
    // After a failure the same button sends the same key: the job may have been created before the connection broke.
    if (this.resubmission?.body !== sent.body) this.resubmission = { ...sent, headers: { ...sent.headers, "Idempotency-Key": idempotencyKey() } };
    const job = await post("v1/selections/resubmit", this.resubmission);
    this.resubmission = null;
    this.results.go(`/jobs/${job.id}`);
    const left = job.left_out.map((one) => `${number(one.images)} ${one.code}`);
    if (left.length) setTimeout(showMessage, 300, `Left out, since their bytes were not stored: ${left.join(", ")}.`);
  }

  async download() {
    await save("v1/selections/archive", "images.zip", { method: "POST", ...jsonBody({ images: this.idsForOneRequest() }, "application/zip") });
  }

  async remove() {
    if (!window.confirm(`Delete ${imageCount(this.ids.size)} with their bytes and results? This cannot be undone.`)) return;
    const { deleted, failed } = await this.send("delete", {});
    const gone = deleted.map((one) => one.image_id);
    for (const id of gone) this.ids.delete(id);
    document.dispatchEvent(new CustomEvent("deleted", { detail: gone }));
    showMessage(`${imageCount(gone.length)} deleted.${failureText(failed)}`);
  }

  // Send the selection in several requests, and return their lists together.
  async send(action, options) {
    const ids = [...this.ids];
    const answer = { deleted: [], failed: [] };
    for (let from = 0; from < ids.length; from += PER_REQUEST) {
      const { deleted = [], failed } = await post(`v1/selections/${action}`, jsonBody({ images: ids.slice(from, from + PER_REQUEST), ...options }));
      answer.deleted.push(...deleted);
      answer.failed.push(...failed);
    }
    return answer;
  }

  // The selection, if it fits in one request.
  idsForOneRequest() {
    if (this.ids.size > PER_REQUEST) throw new Error(`Select at most ${imageCount(PER_REQUEST)} for this.`);
    return [...this.ids];
  }
}

function failureText(failed) {
  return failed.length ? ` ${imageCount(failed.length)} not: ${failed[0].detail}` : "";
}
