// API keys, for admins: create them with a role and limits, and revoke them.

import { badge, button, el, emptyState, errorBox, fill, loadingMessage, number, selectField, showMessage, time } from "./dom.js";
import { json, jsonBody, post } from "./http.js";

const HEADS = ["Name", "Role", "Key", "Created", "Expires", "Limits", ""];
const ROLES = [["submit", "submit: own jobs"], ["read", "read: all jobs, changes nothing"], ["review", "review: reads all, and reviews"], ["admin", "admin: everything"]];
const LIMITS = [["images_per_minute", "Images per minute"], ["bytes_per_minute", "Bytes per minute"], ["open_images", "Open images"], ["open_bytes", "Open bytes"]];
const DAY_SECONDS = 86400;

export function keys(main, { signal, caller }) {
  const view = { signal, caller, role: "submit", body: el("div", {}, loadingMessage("the keys")), made: el("div") };
  fill(main, el("div", { class: "head" }, el("h1", { tabindex: "-1" }, "Keys")), form(view), view.made, view.body);
  show(view);
}

function form(view) {
  const amount = (name, label) => el("label", {}, label, el("input", { name, type: "number", min: 0, step: 1, placeholder: "default" }));
  const node = el("form", { class: "panel", "aria-label": "New key" }, el("div", { class: "filters" },
    el("label", {}, "Name", el("input", { name: "name", required: true, maxlength: 255, autocomplete: "off" })),
    selectField("Role", ROLES, view.role, (role) => (view.role = role)),
    el("label", {}, "Expires after days", el("input", { name: "days", type: "number", min: 1, step: 1, placeholder: "never" })),
    LIMITS.map(([name, label]) => amount(name, label)),
    el("button", { class: "primary" }, "Create a key")),
    el("p", { class: "hint" }, "A limit of 0 means no limit; an empty one is the default in the server's settings."),
  );
  node.addEventListener("submit", (event) => {
    event.preventDefault();
    create(view, node);
  });
  return node;
}

async function create(view, node) {
  const given = Object.fromEntries([...new FormData(node)].filter(([, value]) => value !== "").map(([name, value]) => [name, name === "name" ? value : Number(value)]));
  const { days, name } = given;
  const limits = Object.fromEntries(LIMITS.filter(([limit]) => limit in given).map(([limit]) => [limit, given[limit]]));
  const wanted = { name, role: view.role, ...limits, ...(days && { expires_in: days * DAY_SECONDS }) };
  const submit = node.querySelector("button.primary");
  submit.disabled = true;
  try {
    const made = await post("v1/keys", { ...jsonBody(wanted), signal: view.signal });
    node.reset();
    view.role = "submit";
    fill(view.made, secret(view, made));
    await show(view);
  } catch (error) {
    if (!view.signal.aborted) fill(view.made, errorBox(error));
  } finally {
    submit.disabled = false;
  }
}

// The new key: it is shown once, until it is closed.
function secret(view, made) {
  const copy = async () => {
    await navigator.clipboard.writeText(made.key);
    showMessage("The key was copied.");
  };
  return el("section", { class: "panel", "aria-label": "The new key" },
    el("p", {}, "The key of ", el("b", {}, made.name), " is shown only now; copy it:"),
    el("code", { class: "secret" }, made.key),
    el("div", { class: "actions" }, navigator.clipboard && button("Copy", copy), button("Close", () => fill(view.made), { class: "quiet" })));
}

async function show(view) {
  try {
    const { keys: all } = await json("v1/keys", { signal: view.signal });
    const head = el("thead", {}, el("tr", {}, HEADS.map((name) => el("th", { scope: "col" }, name))));
    const sorted = [...all.filter(isValid), ...all.filter((one) => !isValid(one))];
    fill(view.body, all.length ? el("table", { class: "models keys" }, head, el("tbody", {}, sorted.map((one) => row(view, one)))) : emptyState("There are no keys."));
  } catch (error) {
    if (!view.signal.aborted) fill(view.body, errorBox(error, () => show(view)));
  }
}

const isValid = (key) => !key.revoked_at && !(key.expires_at && Date.parse(key.expires_at) < Date.now());

function row(view, key) {
  const limits = LIMITS.filter(([name]) => key[name] !== null)
    .map(([name, label]) => el("p", {}, `${label}: ${key[name] ? number(key[name]) : "no limit"}`));
  return el("tr", {},
    el("td", {}, el("b", {}, key.name), key.id === view.caller.id && el("span", { class: "hint" }, " (yours)")),
    el("td", {}, badge(key.role)),
    el("td", {}, el("code", {}, `${key.prefix}…`)),
    el("td", {}, time(key.created_at)),
    el("td", {}, key.expires_at ? new Date(key.expires_at).toLocaleDateString() : "never"),
    el("td", { class: "hint" }, limits.length ? limits : "default"),
    el("td", {}, key.revoked_at ? ["revoked ", time(key.revoked_at)] : isValid(key) ? button("Revoke", () => revoke(view, key), { "aria-label": `Revoke ${key.name}` }) : "expired"),
  );
}

async function revoke(view, key) {
  const own = key.id === view.caller.id ? " This is the key that you are logged in with." : "";
  if (!window.confirm(`Revoke the key ${key.name}?${own} Requests with it are rejected from then on; this cannot be undone.`)) return;
  try {
    await json(`v1/keys/${key.id}`, { method: "DELETE", signal: view.signal });
    await show(view);
  } catch (error) {
    if (!view.signal.aborted) showMessage(error.message);
  }
}
