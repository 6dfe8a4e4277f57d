// HTTP client of the API.

import { storedKey } from "./stored_key.js";
import { pause } from "./visibility.js";

const UNREACHABLE = "The server does not answer. Is it running, and is this machine online?";
const FOREIGN = "Something other than Sortbelt answered, perhaps the login page of a proxy or a network. Reload this page, and log in where it asks.";
const WAIT_SECONDS = 20;
const EMPTY_PAGES = 25; // skipped in search of a page with rows
const RETRY_SECONDS = { min: 1, max: 600 }; // a Retry-After may be 0, or a date by another clock
const MIN_SECONDS = 0.5; // between two requests for a job that changes all the time

export class Problem extends Error {
  constructor(sentence, { status = 0, code = "unreachable", seconds = null } = {}) {
    super(sentence);
    Object.assign(this, { status, code, seconds });
  }
}

// Throw a Problem with the server's detail for every status that is not a success or in `also`, and for an answer of
// another type than the accepted one.
export async function request(path, { headers = {}, also = [304], signal, ...more } = {}) {
  const sent = { Accept: "application/json", ...headers, Authorization: `Bearer ${storedKey()}` };
  const response = await fetch(path, { ...more, signal, headers: sent }).catch((error) => {
    throw signal?.aborted ? error : new Problem(UNREACHABLE);
  });
  const type = response.headers.get("Content-Type") ?? "";
  const isOurs = response.status === 304 || sent.Accept === "*/*" || type.startsWith(sent.Accept);
  if (isOurs && (response.ok || also.includes(response.status))) return response;
  if (response.ok) throw foreignProblem();
  throw problem(response.status, response.headers.get("Retry-After"), await response.text().catch(() => ""));
}

export async function json(path, options) {
  return (await request(path, options)).json();
}

export const post = (path, options) => json(path, { method: "POST", ...options });

// Return the parameters of a query string, without the empty ones.
export const query = (params) => new URLSearchParams(Object.entries(params).filter(([, value]) => value));

// Return the options of a request with a JSON body.
export function jsonBody(value, accept = "application/json") {
  return { body: JSON.stringify(value), headers: { "Content-Type": "application/json", Accept: accept } };
}

// Return a new idempotency key.
export function idempotencyKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

// Return a page of a list, and the cursor of the next page or null; skip empty pages, which may precede rare rows.
export async function page(path, params, signal) {
  for (let left = EMPTY_PAGES; ; left -= 1) {
    const response = await request(`${path}?${params}`, { signal });
    const link = response.headers.get("Link")?.match(/<([^>]*)>; *rel="next"/);
    const rows = await response.json();
    const next = link ? new URL(link[1]).searchParams.get("cursor") : null;
    if (!next || !left || Object.values(rows).some((list) => list.length)) return { rows, next };
    params.set("cursor", next);
  }
}

// Call `onChange` whenever a job has changed, until it has ended, by long polling.
export async function follow(id, onChange, signal) {
  let tag = null;
  while (true) {
    const waits = tag ? `?wait=${WAIT_SECONDS}` : "";
    const response = await request(`v1/jobs/${id}${waits}`, { headers: tag ? { "If-None-Match": tag } : {}, signal });
    if (response.status !== 304) {
      tag = response.headers.get("ETag");
      const job = await response.json();
      onChange(job);
      if (job.finished_at) return "over";
    }
    await pause(MIN_SECONDS, signal);
  }
}

export const downloadCsv = (path, name, signal) => save(path, name, { headers: { Accept: "text/csv" }, signal });

// Save the body of an answer as a file.
export async function save(path, name, options) {
  const data = await (await request(path, options)).blob();
  const url = URL.createObjectURL(data);
  Object.assign(document.createElement("a"), { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60000);
}

export function problem(status, retryAfter, text) {
  let body = {};
  try {
    body = JSON.parse(text) ?? {};
  } catch {
    // a proxy answered, not the server
  }
  if (status === 401) document.dispatchEvent(new CustomEvent("unauthorized", { detail: body.detail }));
  const sentence = body.detail ?? `The server answered with status ${status}.`;
  return new Problem(sentence, { status, code: body.code ?? "", seconds: delay(retryAfter) });
}

// Return the seconds of a Retry-After header, a number or a date; null without one that can be read.
function delay(header) {
  if (!header) return null;
  const given = Number(header);
  const seconds = Number.isNaN(given) ? (Date.parse(header) - Date.now()) / 1000 : given;
  if (!Number.isFinite(seconds)) return null;
  return Math.min(Math.max(seconds, RETRY_SECONDS.min), RETRY_SECONDS.max);
}

export const unreachableProblem = () => new Problem(UNREACHABLE);
export const foreignProblem = () => new Problem(FOREIGN, { code: "not_sortbelt" });

// Whether a request may be repeated: the server has no capacity, or it (502, 504: as a proxy says) does not answer.
export const isBusy = (error) => [408, 429, 503].includes(error.status);
export const isUnreachable = (error) => error.code === "unreachable" || [502, 504].includes(error.status);
