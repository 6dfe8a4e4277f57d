// The status bar: readiness, and the queue of all keys.

import { duration, el, fill, number } from "./dom.js";
import { request } from "./http.js";
import { pause, repeat } from "./visibility.js";

const SECONDS = 10;

export function statusBar(node, signal) {
  node.hidden = false;
  repeat(signal, async (inner) => {
    const [ready, metrics] = await Promise.all([
      request("readyz", { also: [503], signal: inner }).then((response) => response.json()),
      request("metrics", { signal: inner, headers: { Accept: "*/*" } }).then((response) => response.text()),
    ]);
    fill(node, health(ready), queue(metrics));
    await pause(SECONDS, inner);
  }, (error) => fill(node, indicator("error", error.message)));
}

function health(ready) {
  const wrong = Object.values(ready.checks ?? {}).filter((check) => !check.ok).map((check) => check.detail);
  if (ready.status !== "ready") return indicator("error", ["Not ready.", ...wrong].join(" "));
  return wrong.length ? indicator("warning", `Ready, but ${wrong.join(" ")}`) : indicator("ok", "Ready");
}

function queue(metrics) {
  const workers = sum(metrics, /^sortbelt_workers\{.*\} (\S+)$/gm);
  const waiting = sum(metrics, /^sortbelt_images\{.*status="queued".*\} (\S+)$/gm);
  const running = sum(metrics, /^sortbelt_images\{.*status="running".*\} (\S+)$/gm);
  const seconds = sum(metrics, /^sortbelt_drain_seconds (\S+)$/gm);
  const rate = sum(metrics, /^sortbelt_images_per_second (\S+)$/gm);
  return el("ul", {},
    item(workers, workers === 1 ? "worker" : "workers"),
    item(waiting, "queued"),
    item(running, "running"),
    rate > 0 && el("li", {}, el("b", {}, rate < 10 ? rate.toFixed(1) : number(Math.round(rate))), " per second"),
    waiting + running > 0 && Number.isFinite(seconds) && el("li", {}, `done in about ${duration(seconds)}`),
  );
}

// Prometheus writes infinity as +Inf.
function sum(metrics, line) {
  return [...metrics.matchAll(line)].reduce((all, found) => all + Number(found[1].replace("Inf", "Infinity")), 0);
}

function item(count, what) {
  return el("li", {}, el("b", {}, number(count)), ` ${what}`);
}

function indicator(kind, sentence) {
  return el("span", { class: `indicator ${kind}` }, sentence);
}
