// Thumbnails: fetched with the key when they come into sight, a few at a time, and kept for a while.

import { el } from "./dom.js";
import { ask } from "./http.js";
import { pause } from "./shown.js";

const AT_ONCE = 3;
const MOST_KEPT = 500;
const TRIES = 5;

const kept = new Map(); // image ids with the URLs of what was fetched, oldest first
const wanted = [];
let atWork = 0;

const sight = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries.filter((one) => one.isIntersecting)) {
    sight.unobserve(target);
    wanted.push(target);
  }
  next();
}, { rootMargin: "300px" });

// `soon` is before all others.
export function thumbnail(result, { soon = false } = {}) {
  const frame = el("span", { class: "thumb", "data-image": result.image_id });
  // What a worker could not decode has none, and its bytes are not asked for again.
  if (result.status === "failed") frame.append(el("span", { class: "none" }, result.error.code));
  else if (kept.has(result.image_id)) show(frame, kept.get(result.image_id));
  else if (soon) soonest(frame);
  else sight.observe(frame);
  return frame;
}

export function dropThumbnails() {
  for (const url of kept.values()) URL.revokeObjectURL(url);
  kept.clear();
  wanted.length = 0;
}

function soonest(frame) {
  requestAnimationFrame(() => (wanted.unshift(frame), next()));
}

function next() {
  while (atWork < AT_ONCE && wanted.length) {
    const frame = wanted.shift();
    if (!frame.isConnected) {
      sight.observe(frame); // it may come back
      continue;
    }
    atWork += 1;
    load(frame).finally(() => ((atWork -= 1), next()));
  }
}

async function load(frame) {
  const id = frame.dataset.image;
  try {
    if (!kept.has(id)) keepOne(id, URL.createObjectURL(await (await patient(`v1/images/${id}/thumbnail`)).blob()));
    show(frame, kept.get(id));
  } catch (error) {
    frame.replaceChildren(el("span", { class: "none", title: error.message }, error.code || "no thumbnail"));
  }
}

async function patient(path) {
  for (let tries = 1; ; tries += 1) {
    try {
      return await ask(path, { headers: { Accept: "image/jpeg" } });
    } catch (error) {
      if (error.status !== 503 || tries === TRIES) throw error;
      await pause(error.seconds ?? 2);
    }
  }
}

function keepOne(id, url) {
  kept.set(id, url);
  if (kept.size <= MOST_KEPT) return;
  const [oldest, old] = kept.entries().next().value;
  kept.delete(oldest);
  // An image that is shown keeps its pixels without the URL.
  URL.revokeObjectURL(old);
}

function show(frame, url) {
  frame.replaceChildren(el("img", { src: url, alt: "", decoding: "async" }));
}
