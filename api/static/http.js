// Asking the API, with the key of whoever is logged in. The key is kept in this tab, and nowhere else.

import { pause } from "./shown.js";

const NAME = "sortbelt.key";
const UNREACHABLE = "The server does not answer. Is it running, and is this machine online?";
const WAIT_SECONDS = 20;
const EMPTY_PAGES = 25; // that are passed over for one that holds something
const LEAST_SECONDS = 0.5; // between two looks at a job that changes all the time

export class Problem extends Error {
  constructor(sentence, { status = 0, code = "unreachable", seconds = null } = {}) {
    super(sentence);
    Object.assign(this, { status, code, seconds });
  }
}

export const key = () => sessionStorage.getItem(NAME);
export const keep = (given) => sessionStorage.setItem(NAME, given);
export const forget = () => sessionStorage.removeItem(NAME);

// Answers that are no success are thrown as a Problem with the server's own sentence, but for those named by `also`.
export async function ask(path, { headers = {}, also = [304], signal, ...more } = {}) {
  const told = { Accept: "application/json", ...headers, Authorization: `Bearer ${key()}` };
  const response = await fetch(path, { ...more, signal, headers: told }).catch((error) => {
    throw signal?.aborted ? error : new Problem(UNREACHABLE);
  });
  if (response.ok || also.includes(response.status)) return response;
  throw problem(response.status, response.headers.get("Retry-After"), await response.text().catch(() => ""));
}

export async function json(path, options) {
  return (await ask(path, options)).json();
}

export const post = (path, options) => json(path, { method: "POST", ...options });

// A page of a list, and the cursor of the next one; null if there is none. What is rare may begin some pages later.
export async function page(path, query, signal) {
  for (let left = EMPTY_PAGES; ; left -= 1) {
    const response = await ask(`${path}?${query}`, { signal });
    const link = response.headers.get("Link")?.match(/<([^>]*)>; *rel="next"/);
    const rows = await response.json();
    const next = link ? new URL(link[1]).searchParams.get("cursor") : null;
    if (!next || !left || Object.values(rows).some((list) => list.length)) return { rows, next };
    query.set("cursor", next);
  }
}

// Tell of a job whenever it has changed, until it is over. One request waits at the server; none is asked in between.
export async function follow(id, told, signal) {
  let tag = null;
  while (true) {
    const waits = tag ? `?wait=${WAIT_SECONDS}` : "";
    const response = await ask(`v1/jobs/${id}${waits}`, { headers: tag ? { "If-None-Match": tag } : {}, signal });
    if (response.status !== 304) {
      tag = response.headers.get("ETag");
      const job = await response.json();
      told(job);
      if (job.finished_at) return "over";
    }
    await pause(LEAST_SECONDS, signal);
  }
}

export async function download(path, name, signal) {
  const data = await (await ask(path, { headers: { Accept: "text/csv" }, signal })).blob();
  const url = URL.createObjectURL(data);
  Object.assign(document.createElement("a"), { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60000);
}

export function problem(status, seconds, text) {
  let said = {};
  try {
    said = JSON.parse(text);
  } catch {
    // whatever stands between us and the server speaks otherwise
  }
  if (status === 401) document.dispatchEvent(new CustomEvent("refused", { detail: said.detail }));
  const sentence = said.detail ?? `The server answered with ${status}, and no sentence.`;
  return new Problem(sentence, { status, code: said.code ?? "", seconds: seconds === null ? null : Number(seconds) });
}

export const unreachable = () => new Problem(UNREACHABLE);
