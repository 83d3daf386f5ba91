// Saving answers: each is sent until the server confirms that it is on its disk.

import { here, idOf, items, questionsOf } from "./questions.js";
import { $, make } from "./elements.js";

const PATIENCE = 15_000; // milliseconds for one request
const RETRIES = [1, 2, 4, 8, 15]; // seconds between them

/** Question -> the value that the rater chose. */
export const said = new Map();
const waiting = new Map(); // question -> an answer that the server has not confirmed yet
const listeners = [];
let chosen = 0; // how many choices were made
let sending = false;
let failures = 0;
let retry = 0;

export const onChange = (...some) => listeners.push(...some);
export const changed = () => listeners.forEach((listener) => listener());

export const howMany = () => ({ chosen, unsaved: waiting.size });
export const isUnsaved = (id) => waiting.has(id);
export const isFailing = () => failures > 0;

export const isAnswered = (one) => questionsOf(one).every((question) => said.has(idOf(question)));
export const left = () => items().filter((one) => !isAnswered(one)).length;
export const firstLeft = () => items().findIndex((one) => !isAnswered(one));

export function choose(question, value, seconds) {
  const id = idOf(question);
  if (said.get(id) === value) return;
  chosen += 1;
  said.set(id, value);
  waiting.set(id, { ...question, value, seconds });
  changed();
  flush();
}

/** Take over the server's answers; return whether any is new. */
export function take(answers) {
  let isNew = false;
  for (const [item, aspect, reply, value] of answers) {
    const id = idOf({ item, aspect, reply });
    isNew ||= said.get(id) !== value;
    said.set(id, value);
  }
  return isNew;
}

export const forget = () => waiting.clear();

export async function flush() {
  clearTimeout(retry);
  if (sending || !waiting.size) return;
  sending = true;
  const batch = [...waiting].slice(0, 50);
  const problem = await send(batch.map(([, answer]) => answer));
  sending = false;
  if (!problem) for (const [id, answer] of batch) if (waiting.get(id) === answer) waiting.delete(id);
  if (failures && !problem) $("#spoken").textContent = "Your answers are being saved again.";
  failures = problem ? failures + 1 : 0;
  notice(problem);
  changed();
  if (!waiting.size) return;
  if (!problem) return flush();
  retry = setTimeout(flush, 1000 * RETRIES[Math.min(failures, RETRIES.length) - 1]);
}

/** Send answers; return the problem that kept them from being saved, or null. */
async function send(answers) {
  try {
    const response = await request("PUT", "/answers", { rater: here.rater, answers });
    const answer = await response.json().catch(() => null);
    if (response.ok && answer?.kept === answers.length) return null;
    return [answer?.message ?? "The server could not save this.", answer?.hint].filter(Boolean).join(" ");
  } catch {
    return "The server cannot be reached.";
  }
}

export function request(method, path, body) {
  const headers = { "Content-Type": "application/json", "X-Study": "1" };
  // "keepalive" sends an answer even if the page is closed right after it.
  const signal = AbortSignal.timeout(PATIENCE);
  return fetch(path, { method, headers, body: body && JSON.stringify(body), keepalive: method === "PUT", signal });
}

export function notice(problem) {
  const element = $("#notice");
  element.hidden = !problem;
  if (!problem) return;
  if (!waiting.size) {
    element.dataset.text = "";
    return element.replaceChildren(problem);
  }
  const again = make("button", "", "Try now");
  again.addEventListener("click", flush);
  const many = `${waiting.size} ${waiting.size === 1 ? "answer is" : "answers are"} not saved yet.`;
  const text = `${problem} Leave this page open: it keeps trying.`;
  if (element.dataset.text === many + text) return; // announce it only once
  element.dataset.text = many + text;
  element.replaceChildren(make("strong", "", many), ` ${text} `, again);
}

addEventListener("online", flush);
