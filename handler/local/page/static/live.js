// What the server tells: first everything, then what has changed. It knows the last id that this browser has.

const RETRY_MS = 2000;

/** A copy of what the server knows: the messages by number, and the state of everything else. */
export const store = { messages: new Map(), state: null };

/** Call `hear(changed, wasReset)` with the numbers of the messages that changed, and `stand` with how the line is. */
export function listen(hear, stand) {
  const source = new EventSource("/events");
  source.onopen = () => stand("live");
  source.onmessage = (event) => hear(...take(JSON.parse(event.data)));
  source.onerror = () => {
    stand("connecting");
    if (source.readyState === EventSource.CLOSED) setTimeout(() => listen(hear, stand), RETRY_MS); // it was refused
  };
}

const OVER = new Set(["answered", "dead", "lost"]);

export const isOver = ({ stage }) => OVER.has(stage);

let ranks = 0; // messages that are over get one, so that the last can come first

function take({ messages, all, ...state }) {
  if (all) store.messages.clear();
  const now = performance.now();
  for (const message of messages) {
    message.due = now + message.due_in * 1000;
    message.rank = isOver(message) ? (store.messages.get(message.number)?.rank ?? ++ranks) : undefined;
    store.messages.set(message.number, message);
  }
  for (const number of store.messages.keys()) if (number < state.first) store.messages.delete(number);
  store.state = state;
  return [messages.map((message) => message.number), all];
}
