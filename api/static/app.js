// The page: login state and view routing.

import { address, isOtherImage } from "./address.js";
import { say } from "./dom.js";
import { json } from "./http.js";
import { job } from "./job.js";
import { jobs } from "./jobs.js";
import { keys } from "./keys.js";
import { login } from "./login.js";
import { models } from "./models.js";
import { dropPreviews } from "./previews.js";
import { review } from "./review.js";
import { reviews } from "./reviews.js";
import { search } from "./search.js";
import { adopt, leaveAll } from "./session.js";
import { stats } from "./stats.js";
import { strip } from "./status_bar.js";
import { forget, key } from "./stored_key.js";
import { dropThumbnails } from "./thumbnails.js";
import { stopSending } from "./upload.js";
import { workers } from "./workers.js";

const VIEWS = {
  "/": [jobs, "Jobs"], "/results": [search, "Results"], "/review": [review, "Review"], "/reviews": [reviews, "Reviews"],
  "/stats": [stats, "Statistics"], "/models": [models, "Models"], "/workers": [workers, "Workers"], "/keys": [keys, "Keys"],
};

const at = (id) => document.getElementById(id);
const main = at("main");
let holder = null; // the key's name and role
let session = new AbortController();
let view = new AbortController();

function go(path, params = {}) {
  const query = new URLSearchParams(Object.entries(params).filter(([, value]) => value));
  location.hash = `${path}${query.size ? `?${query}` : ""}`;
}

function failed(error) {
  if (error.name !== "AbortError") say(error.message);
}

function show() {
  if (!holder) return;
  view.abort();
  view = new AbortController();
  say("");
  const { path, params } = address();
  const [, id] = path.match(/^\/jobs\/([0-9a-f-]{36})$/) ?? [];
  const [draw, title] = id ? [job, "Job"] : VIEWS[path] ?? VIEWS["/"];
  for (const link of at("nav").children) {
    const here = link.getAttribute("href") === `#${id ? "/" : path}` || (link.id === "review" && path === "/reviews");
    if (here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${title} · Sortbelt`;
  draw(main, { id, params, signal: view.signal, session: session.signal, holder, go, failed });
}

function enter(who) {
  holder = who;
  at("holder").textContent = who.name === who.role ? who.name : `${who.name} (${who.role})`;
  for (const id of ["nav", "leave"]) at(id).hidden = false;
  at("review").setAttribute("href", who.role === "read" ? "#/reviews" : "#/review");
  for (const link of at("nav").children) link.hidden = !(link.dataset.roles ?? who.role).split(" ").includes(who.role);
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
  dropPreviews();
  at("holder").textContent = "";
  for (const id of ["nav", "leave", "strip", "sending"]) at(id).hidden = true;
  say("");
  login(main, sentence, enter);
}

async function begin() {
  if (!key()) await adopt();
  if (!key()) return leave();
  try {
    enter(await json("v1/key"));
  } catch (error) {
    if (error.status === 401) return leave(error.message);
    say(error.message);
    setTimeout(begin, 3000);
  }
}

// A different view scrolls to the top; the same view with other filters keeps its position and focus.
window.addEventListener("hashchange", (event) => {
  if (isOtherImage(event.oldURL, event.newURL)) return document.dispatchEvent(new CustomEvent("image"));
  const [before, after] = [event.oldURL, event.newURL].map((url) => address(url).path);
  const { name } = document.activeElement;
  show();
  const field = before === after && name ? main.querySelector(`[name="${CSS.escape(name)}"]`) : null;
  (field ?? main.querySelector("h1"))?.focus({ preventScroll: true });
  if (!field) window.scrollTo(0, 0);
});
// Its fragment would be taken for the address of a view.
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
// The key was revoked or has expired while in use.
document.addEventListener("refused", (event) => holder && leave(event.detail));
document.addEventListener("left", () => holder && leave("You have logged out in another tab."));
at("leave").addEventListener("click", () => (leaveAll(), leave()));
begin();
