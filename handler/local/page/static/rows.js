// The list of messages: what is on its way, the oldest first, then what is over, the latest first.
// A row that is opened tells its whole story.

import { by, make, many, mark, say } from "./dom.js";
import { isOver, store } from "./live.js";
import { chipOf, stateOf, storyOf } from "./words.js";

const PAGE = 30;
const SHOWN = {
  all: () => true,
  open: (message) => !isOver(message),
  again: (message) => message.attempts.length > 1 || message.stage === "again",
  over: isOver,
};

const rows = new Map(); // by the message's number
let limit = PAGE;

export function startRows() {
  by("filter").addEventListener("change", () => drawRows([]));
  by("more").addEventListener("click", () => {
    limit += PAGE;
    drawRows([]);
  });
}

/** Draw the rows of the messages that changed, and which there are. */
export function drawRows(changed, isReset) {
  if (isReset) clear();
  for (const number of changed) if (rows.has(number)) drawRow(rows.get(number), store.messages.get(number));
  const chosen = document.querySelector("#filter input:checked").value;
  const wanted = [...store.messages.values()].filter(SHOWN[chosen]).sort(byTurn);
  arrange(wanted.slice(0, limit));
  by("more").hidden = wanted.length <= limit;
  say(by("more"), `Show more of ${wanted.length}`);
  by("empty").hidden = wanted.length > 0;
}

function byTurn(one, other) {
  if (isOver(one) && isOver(other)) return other.rank - one.rank;
  return isOver(one) - isOver(other) || one.number - other.number;
}

function clear() {
  rows.clear();
  by("rows").replaceChildren();
}

/** Put the right rows into the right order. Only those that are over since then move: the focus stays where it is. */
function arrange(messages) {
  const list = by("rows");
  const wanted = new Set(messages.map(({ number }) => number));
  for (const [number, row] of rows) {
    if (!wanted.has(number)) rows.delete(number);
    if (!wanted.has(number) || row.dataset.over !== `${isOver(store.messages.get(number))}`) row.remove();
  }
  messages.forEach((message, index) => {
    const row = rowOf(message);
    mark(row, "over", isOver(message));
    if (list.children[index] !== row) list.insertBefore(row, list.children[index] ?? null);
  });
}

function rowOf(message) {
  if (!rows.has(message.number)) {
    const row = makeRow(message.number);
    rows.set(message.number, row);
    drawRow(row, message);
  }
  return rows.get(message.number);
}

function makeRow(number) {
  const row = make("li", "row");
  const details = make("details");
  const summary = make("summary");
  summary.append(...["number", "badge", "prompt", "chips", "answer"].map((name) => make("span", name)));
  details.append(summary, make("div", "details"));
  details.addEventListener("toggle", () => drawRow(row, store.messages.get(number)));
  row.append(details);
  return row;
}

function drawRow(row, message) {
  if (!message) return;
  const [number, badge, prompt, chips, answer] = row.querySelector("summary").children;
  say(number, `#${message.number}`);
  drawBadge(badge, message);
  say(prompt, message.prompt);
  chips.replaceChildren(...message.attempts.slice(-6).map(chip));
  say(answer, message.answer?.text ?? "");
  if (row.firstElementChild.open) drawDetails(row.querySelector(".details"), message);
}

function drawBadge(badge, message) {
  const [tone, words] = stateOf(message);
  mark(badge, "tone", tone);
  say(badge, words);
}

export function chip(attempt) {
  const [tone, words] = chipOf(attempt);
  const made = make("span", "chip");
  made.append(make("span", "hidden", "delivery "), words);
  mark(made, "tone", tone);
  return made;
}

/** What changes by itself: the countdowns. */
export function tickRows() {
  for (const [number, row] of rows) {
    const message = store.messages.get(number);
    if (message?.stage === "again") drawBadge(row.querySelector(".badge"), message);
  }
}

function drawDetails(home, message) {
  const ladder = make("ol", "ladder");
  ladder.append(...message.attempts.map((attempt, index) => step(attempt, message, index === message.attempts.length - 1)));
  const parts = [ladder];
  if (message.answer) parts.push(make("p", "said", message.answer.text));
  parts.push(make("p", "facts", factsOf(message)));
  home.replaceChildren(...parts);
}

function step(attempt, message, isLast) {
  const { tone, title, calls, why, then } = storyOf(attempt, message, isLast);
  const made = make("li");
  mark(made, "tone", tone);
  made.append(make("b", "", `${title}.`), make("span", "what", ` ${[calls, why, then].filter(Boolean).join(" ")}`));
  return made;
}

function factsOf({ id, priority, seconds, responses, answer }) {
  const parts = [`message ${id}`, `priority ${priority}`];
  if (answer) parts.push(`the answer's status_code is ${answer.status}`);
  if (seconds !== null) parts.push(`${seconds.toFixed(1)} s from publish to acknowledgement`);
  if (responses > 1) parts.push(`${many(responses, "response")}: readers drop the later ones by request_message_id`);
  return parts.join(" · ");
}
