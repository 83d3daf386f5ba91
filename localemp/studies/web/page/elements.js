// What both pages are made with. Whatever the study holds is only ever set as text.

export const $ = (selector) => document.querySelector(selector);

/** An element with a class; texts among its children stay texts. */
export function make(tag, className = "", ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (tag === "button") element.type = "button";
  element.append(...children);
  return element;
}

export const ownDirection = (element) => Object.assign(element, { dir: "auto" });

export function hidden(element) {
  element.setAttribute("aria-hidden", "true");
  return element;
}
