// What things mean, in plain words. `WHY` has every reason that the service logs (docs/behaviour.md).

export const MODES = {
  works: "It answers whatever it is asked.",
  fails: "It says 500 to everything. After three attempts its error is taken as the answer: it may be the request's own fault.",
  busy: "It says 503 to everything. The service asks again for some seconds, then gives the request back; after ten attempts the error is the answer.",
  hangs: "It takes calls and never answers. Choose another, and its calls break off, as if it had been started anew.",
  slow: "Each answer takes five seconds longer. The line grows; nothing fails.",
  away: "It takes no connection, and calls in work break off. The service tries for some seconds, then gives requests back.",
};

/** The same in a few words, after "the model". */
export const MODEL = {
  works: "works",
  fails: "says 500 to everything",
  busy: "says 503 to everything",
  hangs: "takes calls and never answers",
  slow: "takes five seconds longer",
  away: "is away: it takes no connection",
};

export const WHY = {
  answered: "The response was published and confirmed; only then was the push acknowledged.",
  already_answered: "A copy of a request whose response is published already: nothing to do.",
  request_refused: "The request cannot be carried out; the answer says why.",
  model_timed_out: "The model took longer than it may.",
  response_too_large: "The response is larger than a Pub/Sub message may be.",
  gave_up: "The last attempt that is worth it failed too: its error is the answer.",
  cancelled: "It was cancelled before the model was called.",
  control: "A control message: something was cancelled, or asked about.",
  model_failed: "The model failed.",
  model_misconfigured: "Whoever runs the model has to mend something: a key, money, its address.",
  storage_failed: "Cloud Storage did not give or take what it had to.",
  publish_failed: "The response could not be published. It is kept, and the model is not asked again.",
  in_progress: "A copy of a request that is being worked on.",
  busy: "The line was full, or too long to answer in time.",
  overdue: "It would not have got a slot in time.",
  draining: "The service was ending.",
  not_a_push: "It was no push of a message.",
  push_too_large: "The push was too large.",
  unauthenticated: "The push had no good token.",
  forbidden: "The push had somebody else's token, or its subscription is not served here.",
  keys_unavailable: "The keys that tokens are checked with could not be had.",
  bug: "An error in the service: its log has the details.",
};

const TROUBLE = {
  "no connection": "The service was down: no connection.",
  "the connection broke": "The service ended in the middle of it: the connection broke.",
};

const STAGES = {
  waiting: ["pubsub", "with Pub/Sub"],
  line: ["line", "in the line"],
  model: ["model", "at the model"],
  pause: ["again", "asks the model again"],
  publishing: ["done", "publishing"],
  dead: ["bad", "dead letter"],
  lost: ["bad", "lost"],
};

/** A message's state: its tone and its words; those of a countdown come from `countdown`. */
export function stateOf(message) {
  if (message.stage === "answered") {
    return isError(message) ? ["bad", `answered: error ${message.answer.status}`] : ["done", "answered"];
  }
  return message.stage === "again" ? ["again", countdown(message)] : STAGES[message.stage];
}

export const isError = (message) => Boolean(message.answer) && message.answer.status >= 400;

export function countdown(message) {
  const left = (message.due - performance.now()) / 1000;
  return left > 0.05 ? `again in ${left.toFixed(1)} s` : "again, in its turn";
}

const isAck = (status) => status >= 100 && status < 300;

/** A delivery as a chip: its tone and its words. */
export function chipOf(attempt) {
  if (attempt.status === null) return ["line", `${attempt.number} · …`];
  if (attempt.status === 0) return ["again", `${attempt.number} · broke off`];
  return [isAck(attempt.status) ? "done" : "again", `${attempt.number} · ${attempt.status}`];
}

/** A delivery as sentences: tone, what Pub/Sub got, why. */
export function storyOf(attempt, message, isLast) {
  const [tone] = chipOf(attempt);
  return { tone, title: titleOf(attempt), calls: callsOf(attempt), why: whyOf(attempt, message.stage), then: thenOf(attempt, message, isLast) };
}

function titleOf({ number, status, seconds }) {
  if (status === null) return `Delivery ${number} is under way`;
  const took = `after ${seconds.toFixed(1)} s`;
  if (status === 0) return `Delivery ${number} broke off ${took}`;
  return `Delivery ${number}: ${status} ${took}, ${isAck(status) ? "acknowledged" : "not acknowledged"}`;
}

function callsOf({ calls }) {
  const said = calls.map((status) => status || "cut off");
  return said.length > 1 || (said.length === 1 && said[0] !== 200) ? `The model said: ${said.join(", ")}.` : "";
}

const NOW = {
  line: "It waits in the line for a free slot of the model.",
  model: "The model works on it.",
  pause: "The service keeps the slot and will ask the model again in a moment, which is quicker than a redelivery.",
  publishing: "The model has answered; the response is being published.",
};

function whyOf({ reason, detail, trouble, status }, stage) {
  if (status === null) return NOW[stage] ?? "";
  if (reason) return `${WHY[reason] ?? reason} ${detail ? `(${reason}: ${detail})` : `(${reason})`}`;
  return status === 0 ? TROUBLE[trouble] ?? `${trouble}.` : "";
}

function thenOf(attempt, message, isLast) {
  if (attempt.status === null || isAck(attempt.status)) return "";
  if (isLast && message.stage === "again") return `Pub/Sub still has the request, and waits ${message.wait} s before it pushes it again.`;
  return message.stage === "dead" && isLast ? "Pub/Sub gave it to the dead letters." : "Pub/Sub pushed it again.";
}
