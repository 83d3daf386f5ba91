// The server: requests, streams, and explanations of its errors.

import { $, make } from "./elements.js";

const KEY = "localemp-key";
let keyAsked = null; // both replies of a comparison wait for one dialog

export class Problem extends Error {
  constructor(what, todo) {
    super(/[.!?]$/.test(what) ? what : `${what}.`);
    this.todo = todo;
  }

  lines() {
    return [make("strong", "", this.message), ` ${this.todo}`];
  }
}

export const brokeOff = (why) => new Problem(["The reply was cut off", why].filter(Boolean).join(": "), "Try again in a moment.");
export const stopped = () => new Problem("Stopped.", "Your message is back in the box below.");
const unreachable = () => new Problem("The server cannot be reached.", "Is localemp serve running? Then try again.");

export async function request(path, options = {}) {
  const key = sessionStorage.getItem(KEY);
  const headers = { "Content-Type": "application/json", ...(key && { Authorization: `Bearer ${key}` }) };
  const response = await fetch(path, { ...options, headers }).catch((error) => {
    throw options.signal?.aborted ? error : unreachable();
  });
  if (response.ok) return response;
  if (response.status === 401 && (await askKey(key))) return request(path, options);
  throw await refusal(response);
}

/** Return the problem behind a status: what went wrong, and what to do. */
async function refusal(response) {
  const answer = await response.json().catch(() => null);
  const why = answer?.error?.message ?? `status ${response.status}`;
  const wait = response.headers.get("Retry-After");
  const later = /^\d+$/.test(wait) ? `${wait} seconds` : "a moment";
  if (response.status === 401) return new Problem("The server needs an API key.", "Try again to enter it.");
  if (response.status === 429) return new Problem("The server is busy.", `Try again in ${later}.`);
  if (answer?.error?.code === "context_length_exceeded" || /context length/i.test(why)) {
    const todo = "Write less, choose a simpler strategy, or start a new chat.";
    return new Problem("This chat is longer than the model's context.", todo);
  }
  if (response.status >= 500) return new Problem(`The server could not answer: ${why}`, "Try again in a moment.");
  return new Problem(`The server rejected this: ${why}`, "Change it or choose another model, then try again.");
}

/** Yield the data of each server-sent event. */
export async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
    const lines = (rest + piece.value).split(/\r?\n/);
    rest = lines.pop();
    for (const line of lines) if (line.startsWith("data:")) yield line.slice(5).trim();
  }
}

function askKey(refused) {
  const dialog = $("dialog");
  keyAsked ??= new Promise((resolve) => {
    const said = refused ? "The key you entered is not valid." : "The key stays in this tab only, until you close it.";
    $("#key-said").textContent = said;
    dialog.returnValue = "";
    dialog.showModal();
    dialog.onclose = () => {
      keyAsked = null;
      if (dialog.returnValue) sessionStorage.setItem(KEY, dialog.querySelector("input").value);
      dialog.querySelector("form").reset();
      resolve(dialog.returnValue);
    };
  });
  return keyAsked;
}
