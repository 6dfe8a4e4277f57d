// DOM elements from data. Text never becomes markup: the names of images are untrusted.

const MESSAGE_SECONDS = 8;
export const SINCE_OPTIONS = [["", "ever"], ["24h", "24 hours"], ["yesterday", "yesterday"], ["7d", "7 days"], ["30d", "30 days"]];

export function el(tag, given = {}, ...inner) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(given)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") made.addEventListener(name.replace(/^on/, ""), value);
    else made.setAttribute(name, value === true ? "" : String(value));
  }
  made.append(...withoutEmpty(inner));
  return made;
}

export function fill(node, ...inner) {
  node.replaceChildren(...withoutEmpty(inner));
  return node;
}

let messageTimer = 0;

// Show a sentence at the bottom of the page for a few seconds.
export function showMessage(sentence) {
  clearTimeout(messageTimer);
  document.getElementById("message").textContent = sentence;
  if (sentence) messageTimer = setTimeout(showMessage, MESSAGE_SECONDS * 1000, "");
}

export function selectField(label, options, value, onchange) {
  const made = options.map(([key, shown]) => el("option", { value: key, selected: key === value }, shown));
  return el("label", {}, label, el("select", { name: label, onchange: (event) => onchange(event.target.value) }, made));
}

export function button(label, onclick, given = {}) {
  return el("button", { type: "button", onclick, ...given }, label);
}

export function badge(status) {
  return el("span", { class: `badge ${status}` }, status);
}

// The badge of a job: one that is done shows how many of its images have no label.
export function jobBadge(job) {
  const lost = ["failed", "cancelled", "expired"].filter((state) => job.status === "done" && job.counts[state]);
  const words = [job.status, ...lost.map((state) => `${number(job.counts[state])} ${state}`)];
  return el("span", { class: `badge ${lost.length ? "partial" : job.status}` }, words.join(", "));
}

export function loadingMessage(what) {
  return el("p", { class: "loading", role: "status" }, `Loading ${what}…`);
}

export function errorBox(error, again) {
  const retry = again && button("Retry", again);
  return el("div", { class: "error-box", role: "alert" }, el("p", {}, error.message), retry);
}

export function emptyState(sentence, ...more) {
  return el("div", { class: "empty-state" }, el("p", {}, sentence), ...more);
}

export const number = (value) => value.toLocaleString("en");

export const imageCount = (count) => `${number(count)} ${count === 1 ? "image" : "images"}`;

export const percent = (share) => (share === null ? "" : `${(share * 100).toFixed(1)} %`);

// Whether a caller may submit images.
export const canSubmit = (caller) => ["submit", "admin"].includes(caller.role);

export const shortId = (id) => `${id.slice(0, 4)}…${id.slice(-8)}`;

export function time(moment) {
  const at = new Date(moment);
  return el("time", { datetime: moment, title: at.toLocaleString() }, ago((Date.now() - at.getTime()) / 1000, at));
}

export function duration(seconds) {
  if (seconds < 1) return "less than 1\u00a0s";
  if (seconds < 90) return `${Math.round(seconds)}\u00a0s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)}\u00a0min`;
  if (seconds < 172800) return `${Math.round(seconds / 3600)}\u00a0h`;
  return `${Math.round(seconds / 86400)}\u00a0days`;
}

function ago(seconds, at) {
  if (seconds < 5) return "just now";
  return seconds < 86400 ? `${duration(seconds)} ago` : at.toLocaleDateString();
}

function withoutEmpty(inner) {
  return inner.flat(2).filter((one) => one !== null && one !== undefined && one !== false);
}
