// A notification of the browser when a job has ended, if its user asks for one.

import { button, imageCount, number, showMessage } from "./dom.js";
import { json } from "./http.js";
import { pause } from "./visibility.js";

const awaitedJobs = new Map(); // the jobs whose end is awaited
const WAIT_SECONDS = 20;

// A button for a job that has not ended; nothing where the browser has no notifications.
export function notifyButton(job, session) {
  if (!("Notification" in window) || awaitedJobs.has(job.id)) return null;
  return button("Notify me at the end", (event) => begin(job, session, event.target));
}

async function begin(job, session, pressed) {
  pressed.disabled = true;
  const answer = await Notification.requestPermission();
  if (answer !== "granted") return showMessage("The browser does not allow notifications of this page; its settings can.");
  showMessage("You will be notified while this tab is open.");
  pressed.hidden = true;
  if (awaitedJobs.has(job.id)) return;
  awaitedJobs.set(job.id, session);
  await follow(job, session).finally(() => awaitedJobs.delete(job.id)).catch(() => {});
}

// Also in a hidden tab, whose other requests pause.
async function follow(job, session) {
  while (true) {
    const latest = await json(`v1/jobs/${job.id}?wait=${WAIT_SECONDS}`, { signal: session }).catch(async (error) => {
      if (session.aborted || [401, 404, 410].includes(error.status)) throw error;
      await pause(error.seconds ?? 5, session);
      return null;
    });
    if (latest?.finished_at) return announce(latest);
  }
}

function announce(job) {
  const { done, total } = job.counts;
  const note = new Notification(`Job ${job.name ?? ""} ${job.status}`.replace("  ", " "), { body: `${number(done)} of ${imageCount(total)} labelled.`, tag: job.id });
  note.addEventListener("click", () => {
    window.focus();
    location.hash = `/jobs/${job.id}`;
    note.close();
  });
}
