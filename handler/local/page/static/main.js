// Puts the parts together: what the server tells is drawn as it comes, some twenty times a second at most.

import { drawControls, startControls } from "./controls.js";
import { by, mark, say } from "./dom.js";
import { drawFlow, drawPlaces } from "./flow.js";
import { listen } from "./live.js";
import { drawBalance, drawWords } from "./places.js";
import { drawRows, startRows, tickRows } from "./rows.js";
import { drawStatus } from "./status.js";

const TICK_MS = 100;

function draw(changed, isReset) {
  drawFlow(changed, isReset);
  drawPlaces();
  drawWords();
  drawBalance();
  drawControls();
  drawStatus();
  drawRows(changed, isReset);
}

startControls();
startRows();
listen(draw, (state) => {
  mark(by("live"), "state", state);
  say(by("live"), state === "live" ? "live" : "connecting");
});
setInterval(tickRows, TICK_MS);
