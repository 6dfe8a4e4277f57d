// The page: login state and view routing.

import { address, fragment, isOtherImage } from "./address.js";
import { showMessage } from "./dom.js";
import { json, query } from "./http.js";
import { job } from "./job.js";
import { jobs } from "./jobs.js";
import { keys } from "./keys.js";
import { login } from "./login.js";
import { models } from "./models.js";
import { clearPreviews } from "./previews.js";
import { review } from "./review.js";
import { reviews } from "./reviews.js";
import { search } from "./search.js";
import { logOutTabs, requestKeyFromTabs } from "./session.js";
import { stats } from "./stats.js";
import { statusBar } from "./status_bar.js";
import { removeKey, storedKey } from "./stored_key.js";
import { clearThumbnails } from "./thumbnails.js";
import { stopUpload } from "./upload_area.js";
import { workers } from "./workers.js";

const VIEWS = {
  "/": [jobs, "Jobs"], "/results": [search, "Results"], "/review": [review, "Review"], "/reviews": [reviews, "Reviews"],
  "/stats": [stats, "Statistics"], "/models": [models, "Models"], "/workers": [workers, "Workers"], "/keys": [keys, "Keys"],
};

const byId = (id) => document.getElementById(id);
const main = byId("main");
let caller = null; // the key's name and role
let session = new AbortController();
let view = new AbortController();

function go(path, params = {}) {
  location.hash = fragment(path, query(params));
}

function failed(error) {
  if (error.name !== "AbortError") showMessage(error.message);
}

function show() {
  if (!caller) return;
  view.abort();
  view = new AbortController();
  showMessage("");
  const { path, params } = address();
  const [, id] = path.match(/^\/jobs\/([0-9a-f-]{36})$/) ?? [];
  const [draw, title] = id ? [job, "Job"] : VIEWS[path] ?? VIEWS["/"];
  for (const link of byId("nav").children) {
    const here = link.getAttribute("href") === `#${id ? "/" : path}` || (link.id === "review" && path === "/reviews");
    if (here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${title} · Sortbelt`;
  draw(main, { id, params, signal: view.signal, session: session.signal, caller, go, failed });
}

function logIn(loggedIn) {
  caller = loggedIn;
  byId("caller").textContent = caller.name === caller.role ? caller.name : `${caller.name} (${caller.role})`;
  for (const id of ["nav", "logout"]) byId(id).hidden = false;
  byId("review").setAttribute("href", caller.role === "read" ? "#/reviews" : "#/review");
  for (const link of byId("nav").children) link.hidden = !(link.dataset.roles ?? caller.role).split(" ").includes(caller.role);
  session = new AbortController();
  statusBar(byId("status-bar"), session.signal);
  show();
}

function logOut(sentence = "") {
  caller = null;
  stopUpload();
  session.abort();
  view.abort();
  removeKey();
  clearThumbnails();
  clearPreviews();
  byId("caller").textContent = "";
  for (const id of ["nav", "logout", "status-bar", "upload-progress"]) byId(id).hidden = true;
  showMessage("");
  login(main, sentence, logIn);
}

async function begin() {
  if (!storedKey()) await requestKeyFromTabs();
  if (!storedKey()) return logOut();
  try {
    logIn(await json("v1/key"));
  } catch (error) {
    if (error.status === 401) return logOut(error.message);
    showMessage(error.message);
    setTimeout(begin, 3000);
  }
}

// A different view scrolls to the top; the same view with other filters keeps its position and focus.
window.addEventListener("hashchange", (event) => {
  if (isOtherImage(event.oldURL, event.newURL)) return document.dispatchEvent(new CustomEvent("imagechange"));
  const [before, after] = [event.oldURL, event.newURL].map((url) => address(url).path);
  const { name } = document.activeElement;
  show();
  const field = before === after && name ? main.querySelector(`[name="${CSS.escape(name)}"]`) : null;
  (field ?? main.querySelector("h1"))?.focus({ preventScroll: true });
  if (!field) window.scrollTo(0, 0);
});
// Its fragment would be taken for the address of a view.
document.querySelector(".skip-link").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
// The key was revoked or has expired while in use.
document.addEventListener("unauthorized", (event) => caller && logOut(event.detail));
document.addEventListener("loggedout", () => caller && logOut("You have logged out in another tab."));
byId("logout").addEventListener("click", () => (logOutTabs(), logOut()));
begin();
