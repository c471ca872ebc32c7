// One sentence on what is going on, also for those who hear the page: it changes when something happens, not all the time.

import { by, many, say } from "./dom.js";
import { store } from "./live.js";
import { MODEL } from "./words.js";

let before = { service: "running", model: "works", open: 0 };

export function drawStatus() {
  const { service, model, totals } = store.state;
  const open = totals.published - totals.answered - totals.dead - totals.lost;
  const now = { service: service.state, model, open };
  const words = news(now);
  if (words) say(by("status"), words);
  before = now;
}

function news({ service, model, open }) {
  const asked = many(open, "request");
  if (service !== before.service) return ofService(service, asked, open);
  if (model !== before.model) return `The model ${MODEL[model]}.`;
  if (open && !before.open) return "Pub/Sub pushes; the service holds what has no slot yet in its line.";
  if (!open && before.open) return over();
  return "";
}

function ofService(state, asked, open) {
  if (state === "killed") {
    return open ? `The service is dead. Pub/Sub still has all ${asked} that are not answered, and will push them again.` : "The service is dead. It owed no answer.";
  }
  if (state === "starting") return `The service starts. ${asked} wait with Pub/Sub.`;
  if (state === "failed") return `The service did not start: ${store.state.service.trouble}`;
  return open ? `The service is back. Pub/Sub pushes ${asked} again.` : "The service is back.";
}

function over() {
  const { published, errors, dead, lost } = store.state.totals;
  const parts = [`All ${many(published, "request")} are answered`];
  if (errors) parts.push(`${errors} with an error that says what to do`);
  if (dead) parts.push(`${dead} became dead letters`);
  return `${parts.join(", ")}. Lost: ${lost}.`;
}
