// Share the login among the tabs of this browser: a new tab asks the others for the key. It is stored in each tab only.

import { storedKey, storeKey } from "./stored_key.js";

const SECONDS = 0.3; // that the other tabs get for their answer
const channel = new BroadcastChannel("sortbelt.session");
const base = new URL(".", location.href).pathname; // another server may be at another path of this host

channel.addEventListener("message", ({ data }) => {
  if (data.base !== base) return;
  if (data.ask && storedKey()) channel.postMessage({ base, key: storedKey() });
  if (data.leave) document.dispatchEvent(new CustomEvent("loggedout"));
});

// Take the key over from another tab that is logged in, if there is one.
export function requestKeyFromTabs() {
  return new Promise((resolve) => {
    const take = ({ data }) => {
      if (data.base !== base || !data.key) return;
      storeKey(data.key);
      end();
    };
    const end = () => (channel.removeEventListener("message", take), clearTimeout(timer), resolve());
    const timer = setTimeout(end, SECONDS * 1000);
    channel.addEventListener("message", take);
    channel.postMessage({ base, ask: true });
  });
}

// Log out the other tabs too.
export const logOutTabs = () => channel.postMessage({ base, leave: true });
