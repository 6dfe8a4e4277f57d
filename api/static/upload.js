// Upload images as one job: in one request if they fit, else into an open job that is sealed at the end. The same
// images again, as after a closed tab, go on where the upload of the open job ended.

import { foreignProblem, idempotencyKey, isBusy, isUnreachable, problem, unreachableProblem } from "./http.js";
import { storedKey } from "./stored_key.js";
import { pause } from "./visibility.js";
import { nextBatch, totalBytes } from "./files.js";

const MAX_UPLOADS = 20; // of the same images that are distinguished
const MAX_FAILURES = 8; // in a row, of a server that does not answer

let uploadKey = null; // of the current upload, which ends with it even after a logout

// `onProgress` is called with { job }, with the { bytes } sent, and with { waits }: a sentence, or null.
export async function uploadJob(images, wanted, onProgress, signal) {
  uploadKey = storedKey();
  const options = Object.fromEntries(Object.entries(wanted).filter(([, value]) => value));
  if (nextBatch(images).length < images.length) return fillOpen(images, undefined, options, onProgress, signal);
  try {
    const body = form(images, options);
    const job = await patient(() => request("v1/jobs", body, onProgress, signal), onProgress, signal);
    onProgress({ job });
    return job;
  } catch (error) {
    if (!isTooLarge(error, images)) throw error;
    return fillOpen(images, totalBytes(images) / 2, options, onProgress, signal);
  }
}

async function fillOpen(images, maxBytes, options, onProgress, signal) {
  const ordered = [...images].sort((one, other) => (one.name < other.name ? -1 : 1));
  const { id, counts } = await openJob(ordered, options, onProgress, signal);
  onProgress({ job: { id }, bytes: totalBytes(ordered.slice(0, counts.total)), before: counts.total });
  try {
    await fill(`v1/jobs/${id}/images`, ordered, counts.total, maxBytes, onProgress, signal);
    return await patient(() => request(`v1/jobs/${id}/seal`, { body: null }, null, signal), onProgress, signal);
  } catch (error) {
    // If the user stopped it, no more images will be added; else the upload can go on.
    if (signal?.aborted) await request(`v1/jobs/${id}/cancel`, { body: null }, null).catch(() => {});
    throw error;
  }
}

// Open a job, or return the open job of an earlier upload of the same images: it has the first of them, in their order.
async function openJob(images, options, onProgress, signal) {
  const wanted = { open: true, ...options, metadata: { expected_images: images.length } };
  const same = fingerprint(images, options);
  for (let times = 1; times <= MAX_UPLOADS; times += 1) {
    const job = await patient(() => request("v1/jobs", text(wanted, `${same}-${times}`), null, signal), onProgress, signal)
      .catch((error) => error.status === 410 ? null : Promise.reject(error)); // it was deleted
    if (job && !job.sealed && !job.finished_at) return job;
  }
  return patient(() => request("v1/jobs", text(wanted), null, signal), onProgress, signal);
}

async function fill(path, images, from, maxBytes, onProgress, signal) {
  let sent = totalBytes(images.slice(0, from));
  while (from < images.length) {
    const batch = nextBatch(images, from, maxBytes);
    const before = sent;
    const reportBytes = (news) => onProgress({ bytes: before + news.bytes });
    try {
      await patient(() => request(path, form(batch), reportBytes, signal), onProgress, signal);
      from += batch.length;
      sent += totalBytes(batch);
    } catch (error) {
      if (!isTooLarge(error, batch)) throw error;
      maxBytes = totalBytes(batch) / 2; // the server accepts smaller requests only
    }
  }
}

const isTooLarge = (error, images) => error.status === 413 && images.length > 1;

// Retry while the server is busy or away. A repeat is harmless: submissions have an idempotency key, names are unique.
async function patient(attempt, onProgress, signal) {
  let failures = 0;
  for (let tries = 1; ; tries += 1) {
    try {
      const answer = await attempt();
      onProgress({ waits: null });
      return answer;
    } catch (error) {
      failures = isUnreachable(error) ? failures + 1 : 0;
      const passes = isBusy(error) || (isUnreachable(error) && failures < MAX_FAILURES);
      if (signal?.aborted || !passes) throw error;
      onProgress({ waits: error.message });
      await pause(error.seconds ?? Math.min((failures || tries) * 2, 15), signal);
    }
  }
}

function form(images, options = {}) {
  const body = new FormData();
  for (const [name, value] of Object.entries(options)) body.append(name, value);
  for (const { file, name } of images) body.append("images", file, name);
  return { body, idempotencyKey: idempotencyKey() };
}

function text(value, submissionKey = idempotencyKey()) {
  return { body: JSON.stringify(value), type: "application/json", idempotencyKey: submissionKey };
}

// Return the same key for the same images and options. Not by crypto.subtle, which browsers have on HTTPS only.
function fingerprint(images, options) {
  const content = JSON.stringify([options, images.map(({ file, name }) => [name, file.size, file.lastModified])]);
  const words = [0x9e3779b1, 0x85ebca77, 0xc2b2ae3d, 0x27d4eb2f];
  for (let index = 0; index < content.length; index += 1) {
    const word = index % 4;
    words[word] = Math.imul(words[word] ^ content.charCodeAt(index) ^ words[(word + 3) % 4], 0x5bd1e995 + word * 2);
    words[word] ^= words[word] >>> 15;
  }
  return `page-${words.map((word) => (word >>> 0).toString(16).padStart(8, "0")).join("")}`;
}

// By XMLHttpRequest, since fetch does not report upload progress.
function request(path, { body, type, idempotencyKey: submissionKey }, onProgress, signal) {
  return new Promise((resolve, reject) => {
    const xhr = new XMLHttpRequest();
    xhr.open("POST", path);
    xhr.setRequestHeader("Authorization", `Bearer ${uploadKey}`);
    if (type) xhr.setRequestHeader("Content-Type", type);
    if (submissionKey) xhr.setRequestHeader("Idempotency-Key", submissionKey);
    if (onProgress) xhr.upload.onprogress = (event) => onProgress({ bytes: event.loaded });
    xhr.onload = () => {
      if (xhr.status >= 300) return reject(problem(xhr.status, xhr.getResponseHeader("Retry-After"), xhr.responseText));
      try {
        resolve(JSON.parse(xhr.responseText));
      } catch {
        reject(foreignProblem()); // thrown here, it would leave the promise pending for ever
      }
    };
    xhr.onerror = () => reject(unreachableProblem());
    xhr.onabort = () => reject(signal.reason);
    signal?.addEventListener("abort", () => xhr.abort(), { once: true });
    xhr.send(body);
  });
}
