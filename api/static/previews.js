// Images in full: the thumbnail at once if there is one, then the preview of up to 1,600 pixels a side.

import { el } from "./dom.js";
import { cachedThumbnail, cacheUrl, fetchImage } from "./thumbnails.js";

const MAX_CACHED = 24;

const cache = new Map(); // promises of object URLs by image id, oldest first

// A frame with the image of a result; `caller` is the key's name and role.
export function preview(row, caller) {
  const frame = el("div", { class: "photo", "data-image": row.image_id });
  if (!hasImage(row)) return fail(frame, row.error.code);
  const small = cachedThumbnail(row.image_id);
  if (small) show(frame, row, small);
  load(row, caller).then((url) => show(frame, row, url), (error) => small ?? fail(frame, error.message));
  return frame;
}

// Fetch previews that are likely to be shown next.
export function prefetch(rows, caller) {
  for (const row of rows.filter(hasImage)) load(row, caller).catch(() => {});
}

export function clearPreviews() {
  for (const url of cache.values()) url.then(URL.revokeObjectURL, () => {});
  cache.clear();
}

// An image that a worker could not decode has no preview.
const hasImage = (row) => row.status !== "failed";

function load(row, caller) {
  const id = row.image_id;
  const url = cache.get(id) ?? fetchImage(`v1/images/${id}/${caller.role === "read" ? "thumbnail" : "preview"}`);
  cacheUrl(cache, id, url, MAX_CACHED);
  url.catch(() => cache.delete(id));
  return url;
}

function show(frame, row, url) {
  frame.replaceChildren(el("img", { src: url, alt: row.image, decoding: "async" }));
}

function fail(frame, reason) {
  frame.replaceChildren(el("span", { class: "placeholder" }, reason));
  return frame;
}
