// The buttons: each tells the server what to do; what comes of it is told by events.

import { by, say } from "./dom.js";
import { store } from "./live.js";
import { MODES } from "./words.js";

const TOAST_MS = 6000;

async function send(path, fields) {
  const request = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(fields) };
  request.keepalive = true; // what was clicked counts, even if the page is reloaded at once
  try {
    const response = await fetch(path, request);
    if (!response.ok) complain(await response.text());
  } catch {
    complain("The page's server does not answer. Is make up still running?");
  }
}

let toastTimer;

function complain(words) {
  const toast = by("toast");
  toast.hidden = false;
  say(toast, words);
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => (toast.hidden = true), TOAST_MS);
}

export function startControls() {
  by("publish").addEventListener("submit", (event) => {
    event.preventDefault();
    const { prompt, model, priority } = Object.fromEntries(new FormData(event.target));
    send("/requests", { prompt, model, priority, count: Number(event.submitter?.value ?? 1) });
  });
  by("modes").addEventListener("change", (event) => send("/model", { mode: event.target.value }));
  by("kill").addEventListener("click", () => send("/service/kill", {}));
}

/** Show how things stand, which another browser may have changed. */
export function drawControls() {
  const { model, service, model_name: name } = store.state;
  const chosen = document.querySelector(`#modes input[value="${model}"]`);
  if (!chosen.checked) chosen.checked = true;
  say(by("mode-words"), MODES[model]);
  by("kill").disabled = service.state === "killed" || service.state === "starting";
  say(by("kill"), service.state === "failed" ? "Start the service" : "Kill the service");
  if (!by("model-name").value) by("model-name").value = name;
}
