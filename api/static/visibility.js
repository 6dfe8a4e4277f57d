// Background work that pauses while the tab is hidden.

export function pause(seconds, signal) {
  return cancellable((resolve) => {
    const timer = setTimeout(resolve, seconds * 1000);
    return () => clearTimeout(timer);
  }, signal);
}

export function untilVisible(signal) {
  if (!document.hidden) return Promise.resolve();
  return cancellable((resolve) => {
    const look = () => document.hidden || resolve();
    document.addEventListener("visibilitychange", look);
    return () => document.removeEventListener("visibilitychange", look);
  }, signal);
}

// Repeat `work` while the tab is visible, until it or `failed` returns "over".
export async function repeat(signal, work, failed) {
  while (!signal.aborted) {
    const hidden = new AbortController();
    const look = () => document.hidden && hidden.abort();
    try {
      await untilVisible(signal);
      document.addEventListener("visibilitychange", look);
      if ((await work(AbortSignal.any([signal, hidden.signal]))) === "over") return;
    } catch (error) {
      if (signal.aborted) return;
      if (hidden.signal.aborted) continue;
      if (failed(error) === "over") return;
      await pause(error.seconds ?? 5, signal).catch(() => {});
    } finally {
      document.removeEventListener("visibilitychange", look);
    }
  }
}

// Resolve when `begin` does, or reject when the signal aborts; clean up in both cases.
function cancellable(begin, signal) {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const stop = () => (end(), reject(signal.reason));
    const end = begin(() => (end(), signal?.removeEventListener("abort", stop), resolve()));
    signal?.addEventListener("abort", stop);
  });
}
