// The page of `localemp serve`: a chat, and the models that answer.

import { $, make } from "./elements.js";
import { traceDetails } from "./trace.js";
import { Problem, brokeOff, events, request, stopped } from "./server.js";

const STRATEGIES = {
  "zero-shot": "is asked to listen with empathy",
  "few-shot": "reads a few example dialogues first",
  "similar": "reads the most similar dialogues first",
  "knowledge": "is given what people in such a situation often feel, want and need",
  "two-stage": "infers the emotion and the situation before it replies",
};

const [first, second] = [$("#first"), $("#second")];
const [draft, dialog] = [$("textarea"), $("dialog")];

const models = new Map(); // what /v1/models lists, by id
const chat = []; // exchanges, oldest first: the message, its replies, the chosen one
let answering = null; // aborts the replies that are being written

// The chat: an exchange is a message and one reply, or two to compare.

async function submit() {
  const said = draft.value.trim();
  const last = chat.at(-1);
  if (!said) return;
  if (!models.size) await loadModels();
  if (answering || !models.size) return;
  if (last && !last.chosen) {
    notice(new Problem("Two replies are waiting.", "Choose one to continue with, then send."));
    return last.replies[0].pick.focus();
  }
  last?.replies.forEach(settleChoice);
  write("");
  await ask(begin(said));
}

function begin(said) {
  const replies = chosenModels().map(newReply);
  const side = make("div", replies.length > 1 ? "replies two" : "replies", ...replies.map((reply) => reply.element));
  const exchange = { said, replies, chosen: null, element: make("section", "exchange", bubble(said), side) };
  for (const reply of replies) {
    reply.again.onclick = () => answering || ask(exchange, [reply]);
    reply.pick.onclick = () => choose(exchange, reply);
  }
  chat.push(exchange);
  $("#chat").append(exchange.element);
  $("#welcome").hidden = true;
  window.scrollTo(0, document.body.scrollHeight);
  return exchange;
}

async function ask(exchange, replies = exchange.replies) {
  answering = new AbortController();
  const { signal } = answering;
  const messages = dialogueUpTo(exchange);
  notice(null);
  showBusy();
  draft.focus();
  $("#spoken").textContent = "A reply is being written.";
  try {
    await Promise.all(replies.map((reply) => answer(reply, messages, signal)));
  } finally {
    answering = null;
    showBusy();
    if (chat.includes(exchange)) settle(exchange);
  }
}

function settle(exchange) {
  const written = exchange.replies.filter((reply) => reply.text);
  if (!written.length) return takeBack(exchange);
  for (const reply of exchange.replies) reply.pick.hidden = written.length < 2;
  if (written.length === 1) choose(exchange, written[0]);
  const names = exchange.replies.length > 1;
  $("#spoken").textContent = written.map((reply) => (names ? `${reply.model}: ${reply.text}` : reply.text)).join("\n");
}

/** No reply came: put the message back into the composer, in front of anything typed since. */
function takeBack(exchange) {
  chat.splice(chat.indexOf(exchange), 1);
  exchange.element.remove();
  $("#welcome").hidden = chat.length > 0;
  write([exchange.said, draft.value].filter(Boolean).join("\n\n"));
  notice(exchange.replies[0].problem);
}

function dialogueUpTo(exchange) {
  const turns = chat.slice(0, chat.indexOf(exchange)).flatMap(({ said, chosen }) => [
    { role: "user", content: said },
    { role: "assistant", content: chosen.text },
  ]);
  return [...turns, { role: "user", content: exchange.said }];
}

function choose(exchange, chosen) {
  exchange.chosen = chosen;
  notice(null);
  for (const reply of exchange.replies) {
    reply.element.classList.toggle("chosen", reply === chosen);
    reply.pick.textContent = reply === chosen ? "Continuing with this reply" : "Continue with this reply";
  }
}

function settleChoice(reply) {
  reply.again.remove();
  reply.pick.disabled = true;
  if (!reply.element.classList.contains("chosen")) reply.pick.remove();
}

function newChat() {
  answering?.abort();
  chat.length = 0;
  $("#chat").replaceChildren();
  $("#welcome").hidden = false;
  notice(null);
  draft.focus();
}

// One reply.

function newReply(model) {
  const reply = {
    model,
    body: Object.assign(make("p", "text"), { dir: "auto" }),
    below: make("div"),
    again: make("button", "", "Ask again"),
    pick: Object.assign(make("button", "pick", "Continue with this reply"), { hidden: true }),
  };
  reply.element = make("article", "reply", make("h2", "by", model), reply.body, reply.pick, reply.below);
  reply.element.setAttribute("aria-label", `Reply by ${model}`);
  return reply;
}

async function answer(reply, messages, signal) {
  Object.assign(reply, { text: "", problem: null, trace: null, finish: null });
  reply.body.replaceChildren();
  reply.below.replaceChildren();
  reply.element.classList.add("waiting");
  try {
    await receive(reply, messages, signal);
    if (!reply.text) throw new Problem("The reply was empty.", "Try again, or choose another strategy.");
  } catch (error) {
    reply.problem = signal.aborted ? stopped() : error instanceof Problem ? error : brokeOff();
  }
  reply.element.classList.remove("waiting");
  follow(() => reply.below.append(...belowReply(reply, signal.aborted)));
}

async function receive(reply, messages, signal) {
  // Where the server offers it, the bare model is asked with the strategies' sampling, so that the two can be compared.
  const bare = models.get(reply.model).sampling && { localemp: { sampling: true } };
  const asked = isStrategy(reply.model) ? { localemp: { trace: true } } : bare;
  const body = JSON.stringify({ model: reply.model, messages, stream: true, ...asked });
  for await (const data of events(await request("v1/chat/completions", { method: "POST", body, signal }))) {
    if (data === "[DONE]") return;
    const { error, choices: [choice] = [], localemp } = JSON.parse(data);
    if (error) throw brokeOff(error.message);
    reply.trace = localemp ?? reply.trace;
    reply.finish = choice?.finish_reason ?? reply.finish;
    add(reply, choice?.delta?.content);
  }
  throw brokeOff();
}

function add(reply, piece) {
  const text = reply.text ? piece : piece?.trimStart();
  if (!text) return;
  reply.text += text;
  reply.element.classList.remove("waiting");
  follow(() => reply.body.append(text));
}

function belowReply({ text, problem, finish, trace, again }, wasStopped) {
  if (wasStopped) return [make("small", "aside", "Stopped here.")];
  if (problem) return [make("div", "note", ...problem.lines(), text ? " Or continue from here." : "", again)];
  const cut = finish === "length" ? [make("small", "aside", "Cut off at the length limit.")] : [];
  return [...cut, ...(trace ? [traceDetails(trace)] : [])];
}

// The models.

async function loadModels() {
  try {
    const { data } = await (await request("v1/models")).json();
    data.forEach((model) => models.set(model.id, model));
    if (!models.size) throw new Problem("The server lists no models.", "Its log may say why.");
  } catch (error) {
    const problem = error instanceof Problem ? error : new Problem("The server's list of models cannot be read.", "");
    return notice(problem, make("button", "", "Try again"), loadModels);
  }
  notice(null);
  const strategies = [...models.keys()].filter(isStrategy);
  const bare = [...models.keys()].find((id) => !isStrategy(id));
  const start = strategies.find((id) => id.endsWith(":zero-shot")) ?? strategies[0] ?? bare;
  fill(first, start);
  fill(second, opposite(start, strategies) ?? bare ?? start);
}

/** What a comparison with a strategy starts with: two-stage, else another strategy of the same model. */
function opposite(start, strategies) {
  const others = strategies.filter((id) => id !== start && models.get(id).root === models.get(start).root);
  return others.find((id) => id.endsWith(":two-stage")) ?? others[0];
}

const isStrategy = (id) => models.get(id).owned_by === "localemp" && id.startsWith(`${models.get(id).root}:`);
const chosenModels = () => (isComparing() ? [first.value, second.value] : [first.value]);
const isComparing = () => document.body.classList.contains("comparing");

/** List a group for the model and one for each of its adapters: bare first, then the strategies. */
function fill(select, value) {
  const bareFirst = [...models.values()].sort((a, b) => isStrategy(a.id) - isStrategy(b.id));
  const groups = Object.groupBy(bareFirst, ({ id, root }) => (isStrategy(id) ? root : id));
  const option = ({ id }) => make("option", "", id);
  select.replaceChildren(...Object.values(groups).map((members) => make("optgroup", "", ...members.map(option))));
  Object.keys(groups).forEach((name, i) => (select.children[i].label = name));
  select.value = value;
  select.disabled = false;
  explain(select);
}

function explain(select) {
  const id = select.value;
  const names = isStrategy(id) ? id.slice(models.get(id).root.length + 1).split("+") : [];
  const about = isStrategy(id) ? names.map((name) => STRATEGIES[name]) : ["answers without a strategy"];
  const { adapter, description } = models.get(id);
  const who = adapter ? `The model with the adapter ${adapter}` : "The model";
  const known = about.every(Boolean); // of others, such as a user's flow, the server has a line
  const sentence = known ? `${who} ${new Intl.ListFormat("en").format(about)}.` : (description ?? "");
  $(`#${select.getAttribute("aria-describedby")}`).textContent = sentence;
  explainSampling();
}

/** Say in a comparison with which sampling both sides are asked. */
function explainSampling() {
  const own = chosenModels().filter((id) => id && !models.get(id).sampling);
  const told = models.get(first.value)?.sampling;
  const words = told && inWords(told);
  const same = own.length ? `${own.join(" and ")}: the sampling of its own server` : `Same sampling on both sides: ${words}`;
  $("#sampling").textContent = `${same}.`;
  $("#sampling").hidden = !isComparing() || !models.size;
}

function inWords({ max_tokens, ...others }) {
  const named = Object.entries(others).map(([name, value]) => `${name.replaceAll("_", " ")} ${JSON.stringify(value)}`);
  return [...named, `at most ${max_tokens} tokens`].join(", ");
}

function toggleCompare() {
  const comparing = document.body.classList.toggle("comparing");
  $("#compare").setAttribute("aria-pressed", comparing);
  second.parentElement.hidden = !comparing;
  explainSampling();
}

// Helpers.

function bubble(said) {
  return Object.assign(make("p", "said", make("span", "unseen", "You: "), said), { dir: "auto" });
}

function notice(problem, button, action) {
  const element = $("#notice");
  element.hidden = !problem;
  element.replaceChildren(...(problem?.lines() ?? []));
  if (button) element.append(Object.assign(button, { onclick: action }));
  if (problem) element.scrollIntoView({ block: "nearest" });
}

function showBusy() {
  const stopFocused = document.activeElement === $("#stop");
  $("#send").hidden = Boolean(answering);
  $("#stop").hidden = !answering;
  if (stopFocused) draft.focus();
}

function write(text) {
  draft.value = text;
  draft.style.height = "auto";
  draft.style.height = `${draft.scrollHeight}px`;
}

/** Make a change; if the page was scrolled to its end, keep it there. */
function follow(change) {
  const page = document.documentElement;
  const atEnd = page.scrollHeight - page.scrollTop - page.clientHeight < 80;
  change();
  if (atEnd) page.scrollTop = page.scrollHeight;
}

draft.addEventListener("input", () => write(draft.value));
draft.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  submit();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !dialog.open) answering?.abort();
});
$("#composer").addEventListener("submit", (event) => {
  event.preventDefault();
  submit();
});
$("#stop").addEventListener("click", () => answering.abort());
$("#new").addEventListener("click", newChat);
$("#compare").addEventListener("click", toggleCompare);
$("#key-cancel").addEventListener("click", () => dialog.close());
first.addEventListener("change", () => explain(first));
second.addEventListener("change", () => explain(second));
loadModels();
