// The picture: each message is a dot in one of four places, and flies from one to the next.

import { by, isCalm, make, mark, say } from "./dom.js";
import { store } from "./live.js";
import { drawSlots, slotOf } from "./slots.js";
import { isError } from "./words.js";

const PLACES = { waiting: "pubsub", again: "pubsub", line: "line", publishing: "line", answered: "answers", dead: "answers", lost: "answers" };
const MOST = 300; // dots in a place; the number above them counts all
const FLIGHT = { duration: 450, easing: "cubic-bezier(.3,.7,.3,1)" };

const dots = new Map(); // by the message's number

/** Draw the messages that changed; everything anew after a reset. */
export function drawFlow(changed, isReset) {
  if (isReset) clear();
  drawSlots(store.state.slots);
  const moved = changed.map((number) => store.messages.get(number)).filter(Boolean);
  const before = isReset || isCalm() || document.hidden ? new Map() : whereAre(moved);
  for (const message of moved) place(message);
  thinOut();
  for (const [dot, from] of before) fly(dot, from);
}

function clear() {
  for (const dot of dots.values()) dot.remove();
  dots.clear();
}

function whereAre(messages) {
  const known = messages.map(({ number }) => dots.get(number)).filter((dot) => dot?.isConnected);
  return new Map(known.map((dot) => [dot, dot.getBoundingClientRect()]));
}

function place(message) {
  const dot = dots.get(message.number) ?? make("i", "dot");
  dots.set(message.number, dot);
  dress(dot, message);
  const home = slotOf(message) ?? by(`dots-${PLACES[message.stage] ?? "line"}`);
  if (dot.parentElement === home) return;
  if (home.id === "dots-answers") home.prepend(dot); // the newest stays in sight
  else home.append(dot);
}

function dress(dot, message) {
  mark(dot, "stage", message.stage);
  mark(dot, "error", isError(message));
  mark(dot, "again", message.attempts.length > 1);
  const left = message.due - performance.now();
  const isCounting = message.stage === "again" && left > 0;
  dot.classList.toggle("counting", isCounting);
  dot.style.animationDuration = isCounting ? `${message.wait}s` : "";
  dot.style.animationDelay = isCounting ? `${left / 1000 - message.wait}s` : "";
}

/** Smaller dots where there are many; of very many only some. */
function thinOut() {
  for (const [number, dot] of dots) {
    if (!store.messages.has(number)) {
      dot.remove();
      dots.delete(number);
    }
  }
  for (const home of document.querySelectorAll(".dots")) {
    const count = home.childElementCount;
    mark(home, "many", count > 110 ? 2 : count > 48 ? 1 : 0);
    for (let index = MOST; index < count; index += 1) home.lastElementChild.remove();
  }
}

function fly(dot, from) {
  if (dot.parentElement.classList.contains("slot")) return; // the cell fills instead
  const to = dot.getBoundingClientRect();
  const [x, y] = [from.x + from.width / 2 - to.x - to.width / 2, from.y + from.height / 2 - to.y - to.height / 2];
  if (!to.width || Math.hypot(x, y) < 2) return;
  dot.animate([{ transform: `translate(${x}px, ${y}px)`, zIndex: 3 }, { transform: "none", zIndex: 3 }], FLIGHT);
}

/** The numbers and the words below the dots. */
export function drawPlaces() {
  const { stages, totals, slots } = store.state;
  const taken = Object.keys(slots.taken).length;
  say(by("count-pubsub"), `${stages.waiting + stages.again + store.state.beyond}`);
  say(by("count-line"), `${stages.line + stages.publishing}`);
  say(by("count-model"), `${taken}`);
  say(by("count-answers"), `${totals.answered}`);
  say(by("slots-words"), slots.limit ? `works on ${slots.limit} at once` : "works on as many as it can");
}
