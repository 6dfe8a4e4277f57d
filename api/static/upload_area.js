// The upload area, and the progress bar, which stays while views change.

import { button, el, fill, imageCount, number, selectField, showMessage } from "./dom.js";
import { chosenImages, droppedImages, totalBytes } from "./files.js";
import { json } from "./http.js";
import { uploadJob } from "./upload.js";

let stop = null; // aborts the current upload

export function dropZone(go) {
  const zone = { model: "", go };
  const files = picker(zone, { multiple: true, accept: "image/*" }, "Choose images");
  const folder = picker(zone, { webkitdirectory: true }, "Choose a folder");
  const models = el("span");
  const node = el("section", { class: "drop-zone", "aria-label": "Upload images" },
    el("p", {}, el("b", {}, "Drop images or folders here"), " to classify them"),
    el("div", { class: "actions" }, files, folder, models),
  );
  node.addEventListener("dragover", (event) => (event.preventDefault(), node.classList.add("dragover")));
  node.addEventListener("dragleave", () => node.classList.remove("dragover"));
  node.addEventListener("drop", async (event) => {
    event.preventDefault();
    node.classList.remove("dragover");
    const found = await droppedImages(event.dataTransfer).catch((error) => showMessage(`These files cannot be read: ${error.message}`));
    if (found) await begin(found, zone);
  });
  offerModels(models, zone);
  return node;
}

export function stopUpload() {
  stop?.abort();
}

function picker(zone, given, label) {
  const input = el("input", { type: "file", class: "file", "aria-label": label, ...given });
  input.addEventListener("change", async () => {
    const found = chosenImages(input.files);
    input.value = "";
    await begin(found, zone);
  });
  return el("label", { class: "button" }, label, input);
}

// Offer the models, if there is more than one.
async function offerModels(node, zone) {
  const { models } = await json("v1/models").catch(() => ({ models: [] }));
  const names = models.filter((one) => one.stage === "live").map((one) => one.name);
  if (names.length > 1) fill(node, selectField("Model", [["", "default"], ...names.map((one) => [one, one])], "", (name) => (zone.model = name)));
}

async function begin({ images, left }, zone) {
  if (stop) return showMessage("An upload is in progress; wait until it has finished, or stop it.");
  if (!images.length) return showMessage(left ? `None of these ${number(left)} files is an image.` : "There are no files.");
  stop = new AbortController();
  window.addEventListener("beforeunload", warn);
  const panel = progress(images, left);
  try {
    const report = (news) => (panel.update(news), news.job && zone.go(`/jobs/${news.job.id}`));
    await uploadJob(images, { model: zone.model, job_name: folderName(images) }, report, stop.signal);
    panel.end(`${imageCount(images.length)} sent.`);
  } catch (error) {
    panel.end(stop.signal.aborted ? "Stopped. The remaining images were not sent." : `${error.message} Choose the same images again to go on.`, !stop.signal.aborted);
  } finally {
    stop = null;
    window.removeEventListener("beforeunload", warn);
  }
}

// The folder that all images are in, which becomes the name of the job; undefined if there is none.
function folderName(images) {
  const folders = new Set(images.map(({ name }) => (name.includes("/") ? name.split("/")[0] : "")));
  const [folder] = folders;
  return folders.size === 1 && folder ? folder.slice(0, 255) : undefined;
}

const warn = (event) => event.preventDefault();

function progress(images, left) {
  const node = document.getElementById("upload-progress");
  const total = Math.max(1, totalBytes(images));
  const bar = el("progress", { max: total, value: 0, "aria-label": "Sending" });
  const words = el("span", {}, `Sending ${imageCount(images.length)}`, left > 0 && `; ${number(left)} other ${left === 1 ? "file" : "files"} skipped`);
  const waits = el("span", { class: "hint", role: "status" });
  fill(node, words, bar, waits, button("Stop", stopUpload, { class: "quiet" }));
  node.hidden = false;
  return {
    update: ({ bytes, waits: sentence, before }) => {
      if (before) fill(words, `Going on after ${number(before)} of ${imageCount(images.length)}`);
      if (bytes !== undefined) bar.value = Math.min(bytes, total);
      if (sentence !== undefined) waits.textContent = sentence ?? "";
    },
    end: (sentence, wrong = false) => {
      const close = () => (node.hidden = true);
      fill(node, el("span", { role: wrong ? "alert" : "status", class: wrong ? "error" : null }, sentence), button("Close", close, { class: "quiet" }));
      if (!wrong) setTimeout(close, 4000);
    },
  };
}
