// The login form: asks for an API key.

import { el, fill } from "./dom.js";
import { json } from "./http.js";
import { removeKey, storeKey } from "./stored_key.js";

export function login(main, sentence, entered) {
  const field = el("input", {
    id: "key", type: "password", autocomplete: "off", autocapitalize: "off", spellcheck: "false", required: true,
    placeholder: "sb_…", "aria-describedby": "login-error",
  });
  const wrong = el("p", { id: "login-error", class: "error", role: "alert" }, sentence);
  const submit = el("button", { class: "primary" }, "Log in");
  const form = el("form", { class: "login" },
    el("h1", {}, "Log in"),
    el("p", {}, "Sortbelt classifies images. To submit images and see their results, you need an API key."),
    el("label", { for: "key" }, "Key"),
    field,
    wrong,
    submit,
    el("p", { class: "hint" }, el("code", {}, "sortbelt up"), " prints one; an admin makes more with ",
      el("code", {}, "sortbelt keys create NAME"), ". It stays in the tabs of this page until you log out or close them."),
  );
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    submit.disabled = true;
    try {
      entered(await checkKey(field.value.trim()));
    } catch (error) {
      wrong.textContent = error.message;
      field.select();
    } finally {
      submit.disabled = false;
    }
  });
  fill(main, form);
  document.title = "Sortbelt";
  field.focus();
}

async function checkKey(given) {
  if (!/^[\x21-\x7e]+$/.test(given)) throw new Error("This is not a key: a key has no spaces and begins with sb_…");
  storeKey(given);
  try {
    return await json("v1/key");
  } catch (error) {
    removeKey();
    throw error;
  }
}
