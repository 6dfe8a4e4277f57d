// The place where pictures are put, and the bar that tells how much of them has gone; it stays while views change.

import { button, choice, el, fill, number, pictures as counted, say } from "./dom.js";
import { chosen, dropped, size } from "./files.js";
import { json } from "./http.js";
import { send } from "./uploading.js";

let stop = null; // what ends the sending that is under way

export function dropZone(go) {
  const zone = { model: "", go };
  const files = picker(zone, { multiple: true, accept: "image/*" }, "Choose pictures");
  const folder = picker(zone, { webkitdirectory: true }, "Choose a folder");
  const models = el("span");
  const node = el("section", { class: "drop", "aria-label": "Send pictures" },
    el("p", {}, el("b", {}, "Drop pictures or folders here"), " to have them labelled"),
    el("div", { class: "actions" }, files, folder, models),
  );
  node.addEventListener("dragover", (event) => (event.preventDefault(), node.classList.add("over")));
  node.addEventListener("dragleave", () => node.classList.remove("over"));
  node.addEventListener("drop", async (event) => {
    event.preventDefault();
    node.classList.remove("over");
    const found = await dropped(event.dataTransfer).catch((error) => say(`This cannot be read: ${error.message}`));
    if (found) await begin(found, zone);
  });
  offerModels(models, zone);
  return node;
}

export function stopSending() {
  stop?.abort();
}

function picker(zone, given, label) {
  const input = el("input", { type: "file", class: "file", "aria-label": label, ...given });
  input.addEventListener("change", async () => {
    const found = chosen(input.files);
    input.value = "";
    await begin(found, zone);
  });
  return el("label", { class: "button" }, label, input);
}

// Only where there is something to choose.
async function offerModels(node, zone) {
  const { models } = await json("v1/models").catch(() => ({ models: [] }));
  const names = models.filter((one) => one.stage === "live").map((one) => one.name);
  if (names.length > 1) fill(node, choice("Model", [["", "default"], ...names.map((one) => [one, one])], "", (name) => (zone.model = name)));
}

async function begin({ pictures, left }, zone) {
  if (stop) return say("Pictures are being sent already; wait until they have gone, or stop that.");
  if (!pictures.length) return say(left ? `None of these ${number(left)} files is a picture.` : "There are no files in it.");
  stop = new AbortController();
  window.addEventListener("beforeunload", warn);
  const panel = progress(pictures, left);
  try {
    const told = (news) => (panel.update(news), news.job && zone.go(`/jobs/${news.job.id}`));
    await send(pictures, zone.model, told, stop.signal);
    panel.end(`${counted(pictures.length)} sent.`);
  } catch (error) {
    panel.end(stop.signal.aborted ? "Stopped. What had not gone was not sent." : error.message, !stop.signal.aborted);
  } finally {
    stop = null;
    window.removeEventListener("beforeunload", warn);
  }
}

const warn = (event) => event.preventDefault();

function progress(pictures, left) {
  const node = document.getElementById("sending");
  const total = Math.max(1, size(pictures));
  const bar = el("progress", { max: total, value: 0, "aria-label": "Sending" });
  const words = el("span", {}, `Sending ${counted(pictures.length)}`, left > 0 && `; ${number(left)} other ${left === 1 ? "file is" : "files are"} left alone`);
  const waits = el("span", { class: "hint", role: "status" });
  fill(node, words, bar, waits, button("Stop", stopSending, { class: "quiet" }));
  node.hidden = false;
  return {
    update: ({ bytes, waits: sentence }) => {
      if (bytes !== undefined) bar.value = Math.min(bytes, total);
      if (sentence !== undefined) waits.textContent = sentence ?? "";
    },
    end: (sentence, wrong = false) => {
      const close = () => (node.hidden = true);
      fill(node, el("span", { role: wrong ? "alert" : "status", class: wrong ? "wrong" : null }, sentence), button("Close", close, { class: "quiet" }));
      if (!wrong) setTimeout(close, 4000);
    },
  };
}
