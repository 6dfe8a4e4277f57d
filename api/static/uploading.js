// Sending pictures as one job: in one request if they are few, else into an open job that is sealed at the end.

import { key, problem, unreachable } from "./http.js";
import { pause } from "./shown.js";
import { group, size } from "./files.js";

const TRIES = 8; // at a server that does not answer

let mine = null; // the key that it was begun with, by which it is also ended, when its user has logged out

// `told` hears of { job }, of { bytes } that have gone, and of { waits }: a sentence, or null.
export async function send(pictures, model, told, signal) {
  mine = key();
  const order = model ? { model } : {};
  if (group(pictures).length < pictures.length) return fillOpen(pictures, undefined, order, told, signal);
  try {
    const body = form(pictures, order);
    const job = await patient(() => request("v1/jobs", body, told, signal), told, signal);
    told({ job });
    return job;
  } catch (error) {
    if (!isTooLarge(error, pictures)) throw error;
    return fillOpen(pictures, size(pictures) / 2, order, told, signal);
  }
}

async function fillOpen(pictures, most, order, told, signal) {
  const body = text({ open: true, ...order });
  const { id } = await patient(() => request("v1/jobs", body, null, signal), told, signal);
  told({ job: { id } });
  try {
    await fill(`v1/jobs/${id}/images`, pictures, most, told, signal);
    return await patient(() => request(`v1/jobs/${id}/seal`, { body: null }, null, signal), told, signal);
  } catch (error) {
    // Nobody will add to it any more.
    await request(`v1/jobs/${id}/cancel`, { body: null }, null).catch(() => {});
    throw error;
  }
}

async function fill(path, pictures, most, told, signal) {
  let gone = 0;
  for (let from = 0; from < pictures.length; ) {
    const some = group(pictures, from, most);
    const before = gone;
    const heard = (news) => told({ bytes: before + news.bytes });
    try {
      await patient(() => request(path, form(some), heard, signal), told, signal);
      from += some.length;
      gone += size(some);
    } catch (error) {
      if (!isTooLarge(error, some)) throw error;
      most = size(some) / 2; // this server takes smaller requests
    }
  }
}

const isTooLarge = (error, pictures) => error.status === 413 && pictures.length > 1;

// Who is told to come again later does, and says so meanwhile. A repeat adds nothing: orders have a key, names are unique.
async function patient(attempt, told, signal) {
  for (let tries = 1; ; tries += 1) {
    try {
      const answer = await attempt();
      told({ waits: null });
      return answer;
    } catch (error) {
      const passes = [408, 429, 503].includes(error.status) || (error.code === "unreachable" && tries < TRIES);
      if (signal?.aborted || !passes) throw error;
      told({ waits: error.message });
      await pause(error.seconds ?? Math.min(tries * 2, 15), signal);
    }
  }
}

function form(pictures, order = {}) {
  const body = new FormData();
  for (const [name, value] of Object.entries(order)) body.append(name, value);
  for (const { file, name } of pictures) body.append("images", file, name);
  return { body, once: once() };
}

function text(value) {
  return { body: JSON.stringify(value), type: "application/json", once: once() };
}

function once() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

// By XMLHttpRequest: fetch does not tell how much has gone.
function request(path, { body, type, once: same }, told, signal) {
  return new Promise((resolve, reject) => {
    const asked = new XMLHttpRequest();
    asked.open("POST", path);
    asked.setRequestHeader("Authorization", `Bearer ${mine}`);
    if (type) asked.setRequestHeader("Content-Type", type);
    if (same) asked.setRequestHeader("Idempotency-Key", same);
    if (told) asked.upload.onprogress = (event) => told({ bytes: event.loaded });
    asked.onload = () => {
      if (asked.status < 300) resolve(JSON.parse(asked.responseText));
      else reject(problem(asked.status, asked.getResponseHeader("Retry-After"), asked.responseText));
    };
    asked.onerror = () => reject(unreachable());
    asked.onabort = () => reject(signal.reason);
    signal?.addEventListener("abort", () => asked.abort(), { once: true });
    asked.send(body);
  });
}
