// Images in full: the thumbnail at once if there is one, then the preview of up to 1,600 pixels a side.

import { el } from "./dom.js";
import { cached, fetchImage } from "./thumbnails.js";

const MAX_CACHED = 24;

const kept = new Map(); // promises of object URLs by image id, oldest first

// A frame with the image of a result; `holder` is the key's name and role.
export function preview(row, holder) {
  const frame = el("div", { class: "photo", "data-image": row.image_id });
  if (!hasImage(row)) return fail(frame, row.error.code);
  const small = cached(row.image_id);
  if (small) show(frame, row, small);
  load(row, holder).then((url) => show(frame, row, url), (error) => small ?? fail(frame, error.message));
  return frame;
}

// Fetch previews that are likely to be shown next.
export function prefetch(rows, holder) {
  for (const row of rows.filter(hasImage)) load(row, holder).catch(() => {});
}

export function dropPreviews() {
  for (const url of kept.values()) url.then(URL.revokeObjectURL, () => {});
  kept.clear();
}

// An image that a worker could not decode has no preview.
const hasImage = (row) => row.status !== "failed";

function load(row, holder) {
  const id = row.image_id;
  const url = kept.get(id) ?? fetchImage(`v1/images/${id}/${holder.role === "read" ? "thumbnail" : "preview"}`);
  kept.delete(id);
  kept.set(id, url);
  url.catch(() => kept.delete(id));
  if (kept.size > MAX_CACHED) {
    const [oldest, old] = kept.entries().next().value;
    kept.delete(oldest);
    old.then(URL.revokeObjectURL, () => {});
  }
  return url;
}

function show(frame, row, url) {
  frame.replaceChildren(el("img", { src: url, alt: row.image, decoding: "async" }));
}

function fail(frame, reason) {
  frame.replaceChildren(el("span", { class: "none" }, reason));
  return frame;
}
