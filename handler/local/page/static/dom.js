// Making and changing elements. Text only ever goes in as text: a prompt may hold HTML.

export const by = (id) => document.getElementById(id);

export function make(tag, name = "", text = "") {
  const made = document.createElement(tag);
  if (name) made.className = name;
  if (text) made.textContent = text;
  return made;
}

/** Set a text, and leave the page alone where it is the same. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Set a data- attribute, or remove it where there is no value. */
export function mark(element, name, value) {
  if (value === undefined || value === null) delete element.dataset[name];
  else if (element.dataset[name] !== String(value)) element.dataset[name] = value;
}

export const many = (count, one, more = `${one}s`) => `${count} ${count === 1 ? one : more}`;

export const isCalm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
