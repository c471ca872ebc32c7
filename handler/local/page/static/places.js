// The words around the picture: what each place is doing, and the sum of all messages at the top.

import { by, make, many, mark, say } from "./dom.js";
import { store } from "./live.js";
import { chip } from "./rows.js";
import { MODEL } from "./words.js";

const SERVICE = {
  running: "runs",
  killed: "killed: whatever it worked on has broken off",
  starting: "starts",
  failed: "did not start; press the button to try again",
};

export function drawWords() {
  const { service, model, totals } = store.state;
  say(by("foot-pubsub"), pubsub());
  say(by("foot-line"), SERVICE[service.state]);
  mark(by("place-line"), "broken", service.state !== "running");
  say(by("foot-model"), MODEL[model]);
  mark(by("place-model"), "broken", model !== "works");
  say(by("foot-answers"), answers(totals));
  say(by("count-back"), `${many(totals.redelivered, "redelivery", "redeliveries")}.`);
  mark(by("back"), "some", totals.redelivered > 0);
  drawExample();
}

/** The last message that was answered at a later delivery, as an example of a redelivery. */
function drawExample() {
  const example = [...store.messages.values()].reverse().find(({ stage, attempts }) => stage === "answered" && attempts.length > 1);
  if (by("example").dataset.number === String(example?.number)) return;
  mark(by("example"), "number", example?.number);
  by("example").replaceChildren(...(example ? [`For example #${example.number}: `, ...example.attempts.slice(-4).map(chip)] : []));
}

function pubsub() {
  const { stages, pace } = store.state;
  const parts = [];
  if (stages.again) parts.push(`${many(stages.again, "waits", "wait")} to be pushed again`);
  if (pace.backoff) parts.push(`one push every ${pace.backoff.toFixed(1)} s, since pushes failed`);
  else if (pace.window) parts.push(`up to ${many(pace.window.toLocaleString("en"), "push", "pushes")} at once`);
  return parts.join("; ");
}

function answers({ errors, twice, dead }) {
  const parts = [];
  if (errors) parts.push(many(errors, "is an error", "are errors"));
  if (twice) parts.push(`${many(twice, "came", "came")} twice, which readers drop by request_message_id`);
  if (dead) parts.push(many(dead, "dead letter"));
  return parts.join("; ");
}

/** The sum: what was published is somewhere. */
export function drawBalance() {
  const { stages, totals, beyond } = store.state;
  const parts = [
    ["done", totals.answered, "answered"],
    ["model", stages.model + stages.pause, "at the model"],
    ["line", stages.line + stages.publishing, "in the service"],
    ["again", stages.again, "to come again"],
    ["pubsub", stages.waiting + beyond, "with Pub/Sub"],
    ["lost", totals.dead + totals.lost, totals.dead ? "dead letters or lost" : "lost"],
  ];
  drawBar(parts);
  drawSum(parts, totals.published);
}

function drawBar(parts) {
  const bar = by("balance-bar");
  if (!bar.childElementCount) bar.append(...parts.map(() => make("i")));
  parts.forEach(([name, count], index) => {
    mark(bar.children[index], "part", name);
    bar.children[index].style.flexGrow = count;
    bar.children[index].hidden = count === 0;
  });
}

function drawSum(parts, published) {
  if (!published) return say(by("balance-text"), "Nothing published yet");
  const [done, ...others] = parts;
  const lost = others.pop();
  const middle = make("span", "middle", others.map(([, count, words]) => (count ? ` + ${count} ${words}` : "")).join(""));
  by("balance-text").replaceChildren(make("b", "", `${published} published`), " = ", ...bold(done), middle, " · ", ...bold(lost));
}

const bold = ([, count, words]) => [make("b", "", `${count}`), ` ${words}`];
