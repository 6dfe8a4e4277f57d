// The page: who is logged in, and which view they see.

import { say } from "./dom.js";
import { forget, json, key } from "./http.js";
import { job } from "./job.js";
import { jobs } from "./jobs.js";
import { login } from "./login.js";
import { models } from "./models.js";
import { search } from "./search.js";
import { stats } from "./stats.js";
import { strip } from "./strip.js";
import { dropThumbnails } from "./thumbnails.js";
import { stopSending } from "./upload.js";

const VIEWS = { "/": [jobs, "Jobs"], "/results": [search, "Results"], "/stats": [stats, "Statistics"], "/models": [models, "Models"] };

const at = (id) => document.getElementById(id);
const main = at("main");
let holder = null; // whose key it is, and what it may do
let session = new AbortController();
let view = new AbortController();

function go(path, params = {}) {
  const given = new URLSearchParams(Object.entries(params).filter(([, value]) => value));
  location.hash = `${path}${given.size ? `?${given}` : ""}`;
}

function failed(error) {
  if (error.name !== "AbortError") say(error.message);
}

function show() {
  if (!holder) return;
  view.abort();
  view = new AbortController();
  say("");
  const [path, query = ""] = location.hash.slice(1).split("?");
  const [, id] = path.match(/^\/jobs\/([0-9a-f-]{36})$/) ?? [];
  const [draw, title] = id ? [job, "Job"] : VIEWS[path] ?? VIEWS["/"];
  for (const link of at("nav").children) {
    const here = link.getAttribute("href") === `#${id ? "/" : path || "/"}`;
    if (here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${title} · Sortbelt`;
  draw(main, { id, params: new URLSearchParams(query), signal: view.signal, holder, go, failed });
}

function enter(who) {
  holder = who;
  at("holder").textContent = who.name === who.role ? who.name : `${who.name} (${who.role})`;
  for (const id of ["nav", "leave"]) at(id).hidden = false;
  session = new AbortController();
  strip(at("strip"), session.signal);
  show();
}

function leave(sentence = "") {
  holder = null;
  stopSending();
  session.abort();
  view.abort();
  forget();
  dropThumbnails();
  at("holder").textContent = "";
  for (const id of ["nav", "leave", "strip", "sending"]) at(id).hidden = true;
  say("");
  login(main, sentence, enter);
}

async function begin() {
  if (!key()) return leave();
  try {
    enter(await json("v1/key"));
  } catch (error) {
    if (error.status === 401) return leave(error.message);
    say(error.message);
    setTimeout(begin, 3000);
  }
}

// Another view begins at its top; the same one, filtered otherwise, goes on where its user was.
window.addEventListener("hashchange", (event) => {
  const [before, after] = [event.oldURL, event.newURL].map((url) => new URL(url).hash.split("?")[0] || "#/");
  const { name } = document.activeElement;
  show();
  const field = before === after && name ? main.querySelector(`[name="${CSS.escape(name)}"]`) : null;
  (field ?? main.querySelector("h1"))?.focus({ preventScroll: true });
  if (!field) window.scrollTo(0, 0);
});
// A key that was revoked while it was in use.
document.addEventListener("refused", (event) => holder && leave(event.detail));
at("leave").addEventListener("click", () => leave());
begin();
