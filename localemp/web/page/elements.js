// Helpers that all pages share. Content is only ever set as text, never as markup.

export const $ = (selector) => document.querySelector(selector);

/** Return a new element; strings among its children become text. */
export function make(tag, className = "", ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (tag === "button") element.type = "button";
  element.append(...children);
  return element;
}

/** Let the text of an element decide its direction. */
export const ownDirection = (element) => Object.assign(element, { dir: "auto" });

/** Hide an element from screen readers. */
export function hidden(element) {
  element.setAttribute("aria-hidden", "true");
  return element;
}
