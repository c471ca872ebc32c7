// The model's slots: a cell each, which fills while the model works in it.

import { by, make, mark, say } from "./dom.js";
import { store } from "./live.js";

const MOST = 256;
const cells = [];

export function drawSlots({ limit, taken }) {
  const used = Object.keys(taken).map(Number);
  const wanted = Math.min(MOST, Math.max(limit ?? 0, cells.length, ...used.map((slot) => slot + 1), 1));
  while (cells.length < wanted) grow();
  size(cells.length);
  cells.forEach((cell, index) => fill(cell, taken[index]));
}

function grow() {
  const cell = make("div", "slot");
  cell.append(make("b"));
  cells.push(cell);
  by("slots").append(cell);
}

/** Few are large and numbered; many are small. */
function size(count) {
  const columns = count <= 4 ? 2 : count <= 16 ? 4 : count <= 64 ? 8 : 16;
  const height = count <= 4 ? "4rem" : count <= 16 ? "2.1rem" : count <= 64 ? "1rem" : ".55rem";
  by("slots").style.setProperty("--columns", columns);
  by("slots").style.setProperty("--height", height);
  mark(by("slots"), "small", count > 16);
}

function fill(cell, number) {
  const message = store.messages.get(number);
  mark(cell, "taken", number !== undefined);
  mark(cell, "stage", number === undefined ? null : message?.stage ?? "model");
  say(cell.querySelector("b"), number ? `#${number}` : "");
}

/** The cell that a message's dot belongs into, if it has a slot. */
export function slotOf(message) {
  return message.slot === null ? undefined : cells[message.slot];
}
