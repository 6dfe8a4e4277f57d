// Thumbnails: fetched with the key when they scroll into view, a few at a time, and cached.

import { el } from "./dom.js";
import { request } from "./http.js";
import { pause } from "./visibility.js";

const MAX_CONCURRENT = 4; // the server makes as many at a time as it has cores
const MAX_CACHED = 500;
const TRIES = 5;

const cache = new Map(); // object URLs by image id, oldest first
const queue = [];
let active = 0;

const observer = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries.filter((one) => one.isIntersecting)) {
    observer.unobserve(target);
    queue.push(target);
  }
  next();
}, { rootMargin: "300px" });

export function thumbnail(result) {
  const frame = el("span", { class: "thumbnail", "data-image": result.image_id });
  // An image that a worker could not decode has no thumbnail.
  if (result.status === "failed") frame.append(el("span", { class: "placeholder" }, result.error.code));
  else if (cache.has(result.image_id)) show(frame, cache.get(result.image_id));
  else observer.observe(frame);
  return frame;
}

export function clearThumbnails() {
  for (const url of cache.values()) URL.revokeObjectURL(url);
  cache.clear();
  queue.length = 0;
}

function next() {
  while (active < MAX_CONCURRENT && queue.length) {
    const frame = queue.shift();
    if (!frame.isConnected) {
      observer.observe(frame); // it may be shown again
      continue;
    }
    active += 1;
    load(frame).finally(() => ((active -= 1), next()));
  }
}

async function load(frame) {
  const id = frame.dataset.image;
  try {
    if (!cache.has(id)) cacheUrl(cache, id, await fetchImage(`v1/images/${id}/thumbnail`), MAX_CACHED);
    show(frame, cache.get(id));
  } catch (error) {
    frame.replaceChildren(el("span", { class: "placeholder", title: error.message }, error.code || "no thumbnail"));
  }
}

export const cachedThumbnail = (id) => cache.get(id);

// The object URL of a JPEG; a busy server is asked again.
export async function fetchImage(path) {
  for (let tries = 1; ; tries += 1) {
    try {
      return URL.createObjectURL(await (await request(path, { headers: { Accept: "image/jpeg" } })).blob());
    } catch (error) {
      if (error.status !== 503 || tries === TRIES) throw error;
      await pause(error.seconds ?? 2);
    }
  }
}

// Cache an object URL, or a promise of one, as the newest, and revoke the oldest of more than `max`.
export function cacheUrl(cache, id, url, max) {
  cache.delete(id);
  cache.set(id, url);
  if (cache.size <= max) return;
  const [oldest, old] = cache.entries().next().value;
  cache.delete(oldest);
  // A visible image keeps its pixels without the URL.
  Promise.resolve(old).then(URL.revokeObjectURL, () => {});
}

function show(frame, url) {
  frame.replaceChildren(el("img", { src: url, alt: "", decoding: "async" }));
}
