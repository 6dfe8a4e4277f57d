// Nothing is asked while nobody looks: what goes on in the background stops when the tab is hidden.

export function pause(seconds, signal) {
  return until((resolve) => {
    const timer = setTimeout(resolve, seconds * 1000);
    return () => clearTimeout(timer);
  }, signal);
}

export function shown(signal) {
  if (!document.hidden) return Promise.resolve();
  return until((resolve) => {
    const look = () => document.hidden || resolve();
    document.addEventListener("visibilitychange", look);
    return () => document.removeEventListener("visibilitychange", look);
  }, signal);
}

// Work again and again while the tab is shown, until the work, or who hears of its failure, says that it is over.
export async function repeat(signal, work, failed) {
  while (!signal.aborted) {
    const hidden = new AbortController();
    const look = () => document.hidden && hidden.abort();
    try {
      await shown(signal);
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

// What `begin` resolves, unless the signal comes first; either way what it began is ended.
function until(begin, signal) {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const stop = () => (end(), reject(signal.reason));
    const end = begin(() => (end(), signal?.removeEventListener("abort", stop), resolve()));
    signal?.addEventListener("abort", stop);
  });
}
