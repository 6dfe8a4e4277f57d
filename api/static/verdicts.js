// Verdicts on the images of the review queue: stored in the background, and refilled before the queue is empty.

import { isBusy, isUnreachable, json, jsonBody, page, query } from "./http.js";
import { pause } from "./visibility.js";

const PER_REQUEST = 12; // few: what is leased is shown under no other choice, and to no other key, for ten minutes
const MAX_LIMIT = 100;
const REFILL_BELOW = 8;
const TRIES = 5;

export class Verdicts {
  // `lost(item, error, done)` is called for a verdict that could not be "stored" or "withdrawn", `more()` when there are more items.
  constructor({ strategy, model }, { signal, lost, more }) {
    this.query = { strategy, model };
    Object.assign(this, { signal, lost, more, items: [], done: 0, history: [], isFilling: false, isEmpty: false });
  }

  // Lease more images. The queue returns those that are leased and not reviewed yet too.
  async refill() {
    const waiting = this.items.filter((item) => !item.stored).length;
    const limit = Math.min(MAX_LIMIT, waiting + PER_REQUEST);
    const { rows } = await page("v1/reviews/queue", query({ ...this.query, limit }), this.signal);
    const known = new Set(this.items.map(({ row }) => row.id));
    const news = rows.results.filter((row) => !known.has(row.id));
    this.items.push(...news.map((row) => ({ row, verdict: null, stored: null, sent: Promise.resolve() })));
    this.isEmpty = !news.length;
  }

  decide(item, verdict) {
    if (!item.verdict) this.done += 1;
    item.verdict = verdict;
    this.history.push(item);
    this.send(item, { method: "PUT", ...jsonBody(verdict) }, verdict);
    const waiting = this.items.filter((one) => !one.verdict).length;
    if (waiting < REFILL_BELOW && !this.isFilling && !this.isEmpty) this.fill();
  }

  // Withdraw the last verdict; return its item, or undefined.
  undo() {
    const item = this.history.pop();
    if (!item) return undefined;
    this.history = this.history.filter((one) => one !== item);
    if (item.verdict) this.done -= 1;
    item.verdict = null;
    this.send(item, { method: "DELETE" }, null);
    return item;
  }

  async fill() {
    this.isFilling = true;
    try {
      await this.refill();
      this.more();
    } catch {
      // the next verdict asks again
    } finally {
      this.isFilling = false;
    }
  }

  // Requests for one item follow each other, in the order of the decisions.
  send(item, options, verdict) {
    item.sent = item.sent.then(() => patient(`v1/results/${item.row.id}/review`, options)).then(
      () => (item.stored = verdict),
      (error) => {
        if (item.verdict !== verdict) return; // another decision follows
        this.done += Boolean(item.stored) - Boolean(verdict);
        item.verdict = item.stored;
        this.history = this.history.filter((one) => one !== item);
        this.lost(item, error, verdict ? "stored" : "withdrawn");
      },
    );
  }
}

// A verdict is stored also when the view has changed meanwhile.
async function patient(path, options) {
  for (let tries = 1; ; tries += 1) {
    try {
      return await json(path, options);
    } catch (error) {
      if (!(isBusy(error) || isUnreachable(error)) || tries === TRIES) throw error;
      await pause(error.seconds ?? tries);
    }
  }
}
