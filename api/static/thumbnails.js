// Thumbnails: fetched with the key when they scroll into view, a few at a time, and cached.

import { el } from "./dom.js";
import { ask } from "./http.js";
import { pause } from "./visibility.js";

const MAX_CONCURRENT = 4; // the server makes as many at a time as it has cores
const MAX_CACHED = 500;
const TRIES = 5;

const kept = new Map(); // object URLs by image id, oldest first
const wanted = [];
let atWork = 0;

const sight = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries.filter((one) => one.isIntersecting)) {
    sight.unobserve(target);
    wanted.push(target);
  }
  next();
}, { rootMargin: "300px" });

export function thumbnail(result) {
  const frame = el("span", { class: "thumb", "data-image": result.image_id });
  // An image that a worker could not decode has no thumbnail.
  if (result.status === "failed") frame.append(el("span", { class: "none" }, result.error.code));
  else if (kept.has(result.image_id)) show(frame, kept.get(result.image_id));
  else sight.observe(frame);
  return frame;
}

export function dropThumbnails() {
  for (const url of kept.values()) URL.revokeObjectURL(url);
  kept.clear();
  wanted.length = 0;
}

function next() {
  while (atWork < MAX_CONCURRENT && wanted.length) {
    const frame = wanted.shift();
    if (!frame.isConnected) {
      sight.observe(frame); // it may be shown again
      continue;
    }
    atWork += 1;
    load(frame).finally(() => ((atWork -= 1), next()));
  }
}

async function load(frame) {
  const id = frame.dataset.image;
  try {
    if (!kept.has(id)) keepOne(id, await fetchImage(`v1/images/${id}/thumbnail`));
    show(frame, kept.get(id));
  } catch (error) {
    frame.replaceChildren(el("span", { class: "none", title: error.message }, error.code || "no thumbnail"));
  }
}

export const cached = (id) => kept.get(id);

// The object URL of a JPEG; a busy server is asked again.
export async function fetchImage(path) {
  for (let tries = 1; ; tries += 1) {
    try {
      return URL.createObjectURL(await (await ask(path, { headers: { Accept: "image/jpeg" } })).blob());
    } catch (error) {
      if (error.status !== 503 || tries === TRIES) throw error;
      await pause(error.seconds ?? 2);
    }
  }
}

function keepOne(id, url) {
  kept.set(id, url);
  if (kept.size <= MAX_CACHED) return;
  const [oldest, old] = kept.entries().next().value;
  kept.delete(oldest);
  // A visible image keeps its pixels without the URL.
  URL.revokeObjectURL(old);
}

function show(frame, url) {
  frame.replaceChildren(el("img", { src: url, alt: "", decoding: "async" }));
}
