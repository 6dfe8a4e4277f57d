// Sending pictures as one job: in one request if they are few, else into an open job that is sealed at the end.

import { key, problem, unreachable } from "./http.js";
import { pause } from "./shown.js";
import { grouped } from "./files.js";

const TRIES = 8; // at a server that does not answer

// `told` hears of { job }, of { bytes } that have gone, and of { waits }: a sentence, or null.
export async function send(pictures, model, told, signal) {
  const groups = grouped(pictures);
  const order = model ? { model } : {};
  if (groups.length === 1) {
    try {
      const job = await patient(() => request("v1/jobs", form(groups[0], order), told, signal), told, signal);
      told({ job });
      return job;
    } catch (error) {
      if (error.status !== 413 || pictures.length === 1) throw error;
    }
  }
  return fillOpen(groups, order, told, signal);
}

async function fillOpen(groups, order, told, signal) {
  const { id } = await patient(() => request("v1/jobs", text({ open: true, ...order }), null, signal), told, signal);
  told({ job: { id } });
  const here = `v1/jobs/${id}`;
  try {
    let gone = 0;
    const left = [...groups];
    while (left.length) {
      const group = left.shift();
      const before = gone;
      try {
        const heard = (news) => told({ bytes: before + news.bytes });
        await patient(() => request(`${here}/images`, form(group), heard, signal), told, signal);
        gone += size(group);
      } catch (error) {
        if (error.status !== 413 || group.length === 1) throw error;
        left.unshift(...grouped(group, size(group) / 2)); // this server takes smaller requests
      }
    }
    return await patient(() => request(`${here}/seal`, { body: null }, null, signal), told, signal);
  } catch (error) {
    // Nobody will add to it any more.
    await request(`${here}/cancel`, { body: null }, null).catch(() => {});
    throw error;
  }
}

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

function form(group, order = {}) {
  const body = new FormData();
  for (const [name, value] of Object.entries(order)) body.append(name, value);
  for (const { file, name } of group) body.append("images", file, name);
  return { body, once: once() };
}

function text(value) {
  return { body: JSON.stringify(value), type: "application/json", once: once() };
}

function once() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

const size = (group) => group.reduce((all, { file }) => all + file.size, 0);

// By XMLHttpRequest: fetch does not tell how much has gone.
function request(path, { body, type, once: same }, told, signal) {
  return new Promise((resolve, reject) => {
    const asked = new XMLHttpRequest();
    asked.open("POST", path);
    asked.setRequestHeader("Authorization", `Bearer ${key()}`);
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
