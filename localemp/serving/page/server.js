// The server: requests to it, its streams, and what its refusals mean to a person.

import { $, make } from "./elements.js";

const KEY = "localemp-key";
let keyAsked = null; // both sides of a comparison wait for one dialog

export class Problem extends Error {
  constructor(what, todo) {
    super(/[.!?]$/.test(what) ? what : `${what}.`);
    this.todo = todo;
  }

  lines() {
    return [make("strong", "", this.message), ` ${this.todo}`];
  }
}

export const brokeOff = (why) => new Problem(["The reply broke off", why].filter(Boolean).join(": "), "Try again in a moment.");
export const stopped = () => new Problem("Stopped.", "What you wrote is back below.");
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

/** The problem behind a status: what went wrong, and what to do. */
async function refusal(response) {
  const answer = await response.json().catch(() => null);
  const why = answer?.error?.message ?? `status ${response.status}`;
  const wait = response.headers.get("Retry-After");
  const later = /^\d+$/.test(wait) ? `${wait} seconds` : "a moment";
  if (response.status === 401) return new Problem("The server asks for a key.", "Try again to enter it.");
  if (response.status === 429) return new Problem("The server is busy.", `Try again in ${later}.`);
  if (answer?.error?.code === "context_length_exceeded" || /context length/i.test(why)) {
    const todo = "Write less, pick a simpler strategy, or start a new talk.";
    return new Problem("This talk is longer than the model can read.", todo);
  }
  if (response.status >= 500) return new Problem(`The server could not answer: ${why}`, "Try again in a moment.");
  return new Problem(`The server did not accept this: ${why}`, "Change it or pick another model, then try again.");
}

/** The data of each server-sent event. */
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
    const said = refused ? "It does not know the one you gave." : "It is kept in this tab only, until you close it.";
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
