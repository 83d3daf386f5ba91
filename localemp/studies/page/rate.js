// The page of `localemp study serve`. Whatever the study holds is only ever set as text.

const $ = (selector) => document.querySelector(selector);
const VIEWS = ["away", "stranger", "welcome", "work", "end"];
const PATIENCE = 15_000; // milliseconds for one request
const RETRIES = [1, 2, 4, 8, 15]; // seconds between them

let study = null; // what /items gave
let rater = "";
let place = 0; // the item that is shown
let current = 0; // the question of it that keys answer
let shownAt = 0; // when the item was, by the page's clock; 0 before the first
let byKey = false; // whether the last choice came from the keyboard

const said = new Map(); // question -> the value that the rater chose
let chosen = 0; // how often something was
const waiting = new Map(); // question -> an answer that the server has not said yet to have kept
let sending = false;
let failures = 0;
let retry = 0;

// What is asked: an A/B item asks each aspect once, a rated one asks each aspect of each reply.

const items = () => study.items;
const item = () => study.items[place];
const idOf = ({ item, aspect, reply }) => JSON.stringify([item, aspect, reply]);

function questionsOf({ id, replies }) {
  const ask = (reply) => study.aspects.map(({ name }) => ({ item: id, aspect: name, reply }));
  return study.scale ? replies.flatMap(({ key }) => ask(key)) : ask("");
}

const isAnswered = (one) => questionsOf(one).every((question) => said.has(idOf(question)));
const left = () => items().filter((one) => !isAnswered(one)).length;

function choices(one) {
  if (!study.scale) {
    const [first, second] = one.replies;
    return [
      { value: first.key, label: "Reply 1", key: "1" },
      { value: "tie", label: "Equal", key: "0" },
      { value: second.key, label: "Reply 2", key: "2" },
    ];
  }
  const [low, high] = study.scale;
  const numbers = Array.from({ length: high - low + 1 }, (_, i) => low + i);
  return numbers.map((value) => ({ value, label: `${value}`, key: `${value}` }));
}

/** Whether ratings are typed into fields: those that are not all one digit have no key, and soon are too many. */
const isTyped = () => Boolean(study.scale) && (study.scale[0] < 0 || study.scale[1] > 9);

// Where one is: the address ends in the number of the item, so that the browser's own "back" works.

function show(view) {
  for (const each of VIEWS) $(`#${each}`).hidden = each !== view;
  $("footer").hidden = !(view === "work" || view === "end");
  $("#help").hidden = !study || view === "welcome";
  if (view === "work" || view === "end") showState();
  window.scrollTo(0, 0);
}

function go(to) {
  const wrong = $("#questions [aria-invalid=true]");
  if (wrong && !$("#work").hidden) return wrong.focus(); // gone, it would be forgotten
  if (location.hash !== `#${to + 1}`) history.pushState(null, "", `#${to + 1}`); // at once, unlike location.hash
  arrive();
}

function arrive() {
  if (!study) return;
  const number = Number(location.hash.slice(1));
  if (!Number.isInteger(number) || number < 1) return showWelcome();
  if (number > items().length) return showEnd();
  place = number - 1;
  showItem();
}

/** After the last answer that was given, the first item that is not answered. */
function whereStopped(last) {
  const from = items().findIndex(({ id }) => id === last);
  const after = [...items().slice(from), ...items()].find((one) => !isAnswered(one));
  return after ? items().indexOf(after) : items().length;
}

const firstLeft = () => items().findIndex((one) => !isAnswered(one));

function showWelcome() {
  show("welcome");
  $("#begin").textContent = said.size ? "Go on" : "Begin";
  $("#begin").focus();
}

function showEnd() {
  place = items().length;
  show("end");
  const open = left();
  $("#end h2").textContent = open ? "That was the last item" : "Thank you. That was all.";
  $("#end p").textContent = open
    ? `${open} of ${items().length} items are not answered whole.`
    : "You may still go back and change answers.";
  $("#fill").hidden = !open;
  (open ? $("#fill") : $("#end h2")).focus();
}

// One item.

function showItem() {
  const one = item();
  shownAt = performance.now();
  $("#talk h2").textContent = `Conversation ${place + 1} of ${items().length}`;
  $("#talk ol").replaceChildren(...one.turns.map(turn));
  $("#questions").replaceChildren(...(study.scale ? rated(one) : compared(one)));
  $("#questions").classList.toggle("rating", Boolean(study.scale));
  current = 0;
  advance(false);
  show("work");
  showMarks();
  $("#talk h2").focus({ preventScroll: true });
  $("#talk ol").scrollTop = $("#talk ol").scrollHeight;
}

function turn(text, i) {
  const who = i % 2 ? "Listener" : "Speaker";
  return make("li", who.toLowerCase(), make("span", "by", who), ownDirection(make("p", "", text)));
}

function replyCard(reply, number, ...more) {
  const text = reply.text.trim() ? make("p", "text", reply.text) : make("p", "text none", "(nothing was said)");
  const card = make("article", "reply", make("h3", "", `Reply ${number}`), ownDirection(text), ...more);
  card.setAttribute("aria-label", `Reply ${number}`);
  return card;
}

function compared(one) {
  const pair = make("div", "pair", ...one.replies.map((reply, i) => replyCard(reply, i + 1)));
  const head = make("h3", "ask", study.question);
  return [pair, head, ...questionsOf(one).map((question, i) => fieldset(one, question, i))];
}

function rated(one) {
  const cards = one.replies.map((reply, r) => {
    const own = study.aspects.map(({ name }, a) =>
      fieldset(one, { item: one.id, aspect: name, reply: reply.key }, r * study.aspects.length + a));
    return replyCard(reply, r + 1, ...own);
  });
  return [make("h3", "ask", study.question), scaleWords(), make("div", "cards", ...cards)];
}

function scaleWords() {
  const [low, high] = study.scale;
  const [least, most] = study.scale_words ?? ["lowest", "highest"];
  const words = `${low}: ${least}, ${high}: ${most}`;
  return make("p", "words", isTyped() ? `Whole numbers. ${words}` : words);
}

function fieldset(one, question, number) {
  const { about } = study.aspects.find(({ name }) => name === question.aspect);
  const id = `about-${number}`;
  const group = isTyped()
    ? numberField(question, number)
    : make("div", "choices", ...choices(one).map((choice) => radio(question, number, choice)));
  const mark = make("small", "mark");
  const legend = make("legend", "", question.aspect);
  const element = make("fieldset", "", legend, mark, Object.assign(make("p", "about", about), { id }), group);
  element.setAttribute("aria-describedby", id);
  element.dataset.question = idOf(question);
  element.addEventListener("focusin", () => setCurrent(number));
  return element;
}

function radio(question, number, { value, label, key }) {
  const input = make("input");
  Object.assign(input, { type: "radio", name: `question-${number}`, value, checked: said.get(idOf(question)) === value });
  input.addEventListener("change", () => {
    choose(question, value);
    if (!byKey) advance(false, number);
  });
  const words = study.scale && study.scale.includes(value) && study.scale_words;
  const meaning = words ? [make("span", "unseen", `, ${words[study.scale.indexOf(value)]}`)] : [];
  const hint = study.scale ? [] : [hidden(make("kbd", "", key))];
  return make("label", "", input, make("span", "", label, ...meaning), ...hint);
}

function numberField(question, number) {
  const [low, high] = study.scale;
  const input = make("input");
  Object.assign(input, { type: "number", min: low, max: high, step: 1, autocomplete: "off", value: keptIn(question) });
  if (low >= 0) input.inputMode = "numeric"; // such keyboards may have no minus
  const error = Object.assign(make("p", "error"), { id: `error-${number}`, role: "alert" });
  input.setAttribute("aria-describedby", error.id);
  const keep = () => keepNumber(question, input, error);
  input.addEventListener("change", keep);
  input.addEventListener("blur", keep);
  input.addEventListener("input", () => {
    if (input.validity.valid) sayWrong(input, error, "");
    showState();
    showMarks();
  });
  input.addEventListener("wheel", () => input.blur(), { passive: true }); // it scrolls, and changes no number
  input.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.isComposing) return;
    event.preventDefault();
    if (isEmpty(input)) go(place + 1);
    else if (keep()) advance(true, number);
  });
  return make("div", "typed", make("label", "", input, make("span", "", `${low} to ${high}`)), error);
}

/** Keep the number in a field, if it is one that was asked for; an emptied field gets its kept number back. */
function keepNumber(question, input, error) {
  const right = input.validity.valid;
  if (right && !isEmpty(input)) choose(question, input.valueAsNumber);
  if (right) input.value = keptIn(question);
  const [low, high] = study.scale;
  const before = said.has(idOf(question)) ? ` ${keptIn(question)} still counts.` : "";
  sayWrong(input, error, right ? "" : `Not kept: a whole number from ${low} to ${high} is needed.${before}`);
  showState();
  showMarks();
  return right;
}

function sayWrong(input, error, why) {
  input.setAttribute("aria-invalid", Boolean(why));
  if (error.textContent !== why) error.textContent = why;
}

const keptIn = (question) => `${said.get(idOf(question)) ?? ""}`;
const isEmpty = (input) => !input.value && !input.validity.badInput;

/** Whether a field holds something else than what was kept of it. */
function isDraft(fieldset) {
  const input = fieldset.querySelector("input[type=number]");
  return Boolean(input) && (input.validity.badInput || input.value !== `${said.get(fieldset.dataset.question) ?? ""}`);
}

const fieldsets = () => [...document.querySelectorAll("#questions fieldset")];

function setCurrent(number) {
  current = number;
  fieldsets().forEach((each, i) => each.classList.toggle("current", i === number));
}

/** On to the next question that has no answer; past the last one, to "Next". */
function advance(withFocus, after = -1) {
  const all = fieldsets();
  const open = (each) => !said.has(each.dataset.question);
  const next = all.findIndex((each, i) => i > after && open(each));
  const found = next >= 0 ? next : all.findIndex(open);
  setCurrent(found);
  if (!withFocus) return;
  if (found < 0) return $("#next").focus();
  focusOn(all[found]);
}

function focusOn(fieldset) {
  const input = fieldset.querySelector("input");
  input.focus({ preventScroll: true });
  if (isTyped()) input.select(); // what is typed takes the place of what is there
  fieldset.scrollIntoView({ block: "nearest" });
}

function choose(question, value) {
  const id = idOf(question);
  if (said.get(id) === value) return;
  chosen += 1;
  said.set(id, value);
  waiting.set(id, { ...question, value, seconds: Math.round(performance.now() - shownAt) / 1000 });
  showState();
  showMarks();
  flush();
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || $("#work").hidden) return;
  byKey = true;
  if (event.target.closest("input[type=number]")) return; // its keys are its own
  const onButton = event.target.closest("button, a");
  if (event.key === "ArrowRight" || (event.key === "Enter" && !onButton)) go(place + 1);
  else if (event.key === "ArrowLeft") place > 0 && go(place - 1);
  else if (!answerByKey(event.key)) return;
  event.preventDefault();
}

function answerByKey(key) {
  if (isTyped()) return typeInto(fieldsets()[current], key);
  const wanted = !study.scale && /^t$/i.test(key) ? "0" : key;
  const number = choices(item()).findIndex((choice) => choice.key === wanted);
  const group = fieldsets()[current];
  if (number < 0 || !group) return false;
  const input = group.querySelectorAll("input")[number];
  input.checked = true;
  choose(questionsOf(item())[current], choices(item())[number].value);
  advance(true, current);
  return true;
}

/** Let a digit, or a minus, go to the current field: it is typed there, since the field has the focus by then. */
function typeInto(fieldset, key) {
  if (fieldset && /^[-\d]$/.test(key)) focusOn(fieldset);
  return false;
}

// Keeping answers: what is not kept yet stays here and is sent until the server says that it is on its disk.

async function flush() {
  clearTimeout(retry);
  if (sending || !waiting.size) return;
  sending = true;
  const batch = [...waiting].slice(0, 50);
  const problem = await send(batch.map(([, answer]) => answer));
  sending = false;
  if (!problem) for (const [id, answer] of batch) if (waiting.get(id) === answer) waiting.delete(id);
  if (failures && !problem) $("#spoken").textContent = "Your answers are kept again.";
  failures = problem ? failures + 1 : 0;
  notice(problem);
  showState();
  showMarks();
  if (!waiting.size) return;
  if (!problem) return flush();
  retry = setTimeout(flush, 1000 * RETRIES[Math.min(failures, RETRIES.length) - 1]);
}

/** The problem that kept answers from being kept; null where there was none. */
async function send(answers) {
  try {
    const response = await request("PUT", "/answers", { rater, answers });
    const answer = await response.json().catch(() => null);
    if (response.ok && answer?.kept === answers.length) return null;
    return [answer?.message ?? "The server could not keep this.", answer?.hint].filter(Boolean).join(" ");
  } catch {
    return "The server cannot be reached.";
  }
}

function request(method, path, body) {
  const headers = { "Content-Type": "application/json", "X-Study": "1" };
  // "keepalive" lets an answer through that was given just before the page was closed.
  const signal = AbortSignal.timeout(PATIENCE);
  return fetch(path, { method, headers, body: body && JSON.stringify(body), keepalive: method === "PUT", signal });
}

function notice(problem) {
  const element = $("#notice");
  element.hidden = !problem;
  if (!problem) return;
  const again = make("button", "", "Try now");
  again.addEventListener("click", flush);
  const many = `${waiting.size} ${waiting.size === 1 ? "answer is" : "answers are"} not kept yet.`;
  const text = `${problem} Leave this page open: it keeps trying.`;
  if (element.dataset.text === many + text) return; // said once is enough
  element.dataset.text = many + text;
  element.replaceChildren(make("strong", "", many), ` ${text} `, again);
}

function showState() {
  const done = items().length - left();
  $("progress").max = items().length;
  $("progress").value = done;
  const at = Math.min(place + 1, items().length);
  $("#count").textContent = `${at} of ${items().length}`;
  $("#count").title = `${done} answered`;
  const all = said.size && !fieldsets().some(isDraft) ? "all kept" : "";
  const text = failures ? `${waiting.size} not kept yet` : waiting.size ? "keeping …" : all;
  $("#saved").textContent = text;
  $("#saved").className = failures ? "warn" : "";
  $("#back").disabled = place === 0;
  $("#next").disabled = place >= items().length;
  $("#first").disabled = firstLeft() < 0 || firstLeft() === place;
}

function showMarks() {
  for (const each of fieldsets()) {
    const id = each.dataset.question;
    const mark = each.querySelector(".mark");
    const told = !waiting.has(id) ? "✓ kept" : failures ? "not kept yet" : "…";
    mark.textContent = said.has(id) && !isDraft(each) ? told : "";
    mark.classList.toggle("warn", waiting.has(id) && failures > 0);
  }
}

// Coming and going.

async function load() {
  const response = await request("GET", "/items").catch(() => null);
  if (!response?.ok && response?.status !== 401) {
    show("away");
    return setTimeout(load, 3000);
  }
  const answer = await response.json();
  if (response.status === 401) return showStranger(answer.signup);
  ({ study, rater } = answer);
  take(answer.answers);
  document.title = study.title;
  $("h1").textContent = study.title;
  $("#who span").textContent = rater;
  $("#who").hidden = false;
  fillWelcome();
  if (!answer.answers.length) history.replaceState(null, "", "/"); // the instructions come first
  else if (!location.hash) return go(whereStopped(answer.answers.at(-1)[0]));
  arrive();
}

const take = (answers) =>
  answers.forEach(([item, aspect, reply, value]) => said.set(idOf({ item, aspect, reply }), value));

/** What was answered elsewhere while this page was out of sight. */
async function refresh() {
  const before = chosen;
  if (document.hidden || !study || waiting.size) return;
  const answer = await request("GET", "/items").then((response) => response.ok && response.json()).catch(() => null);
  if (!answer || chosen !== before) return;
  if (answer.rater !== rater) return location.reload();
  take(answer.answers);
  if (!$("#work").hidden && !fieldsets().some(isDraft)) showItem();
  if (!$("#end").hidden) showEnd();
}

function showStranger(signup) {
  show("stranger");
  $("#sign-in").hidden = !signup;
  $("#no-link").hidden = signup;
  if (signup) $("#name").focus();
}

function fillWelcome() {
  const paragraphs = study.instructions.split(/\n\s*\n/).filter((text) => text.trim());
  $("#instructions").replaceChildren(...paragraphs.map((text) => make("p", "", text.trim())));
  $("#aspects").replaceChildren(
    ...study.aspects.flatMap(({ name, about }) => [make("dt", "", name), make("dd", "", about)]));
  const key = (name) => make("kbd", "", name);
  const onward = [key("→"), " or ", key("Enter"), " goes on, ", key("←"), " goes back."];
  const keys = isTyped()
    ? ["type a whole number, ", key("Enter"), " keeps it and goes to the next question. Outside of a field, "]
    : study.scale
    ? [key(`${study.scale[0]}`), " to ", key(`${study.scale[1]}`), " rate, "]
    : [key("1"), " and ", key("2"), " choose a reply, ", key("0"), " or ", key("T"), " says that they are equal, "];
  $("#keys").replaceChildren("With a keyboard: ", ...keys, ...onward);
}

async function signIn(event) {
  event.preventDefault();
  const response = await request("POST", "/sign-in", { name: $("#name").value }).catch(() => null);
  const answer = await response?.json().catch(() => null);
  if (!response?.ok) {
    $("#sign-in-said").hidden = false;
    const why = [answer?.message ?? "The server cannot be reached.", answer?.hint].filter(Boolean).join(": ");
    $("#sign-in-said").textContent = why;
    return $("#name").focus();
  }
  $("#own-link code").textContent = location.origin + answer.link;
  $("#own-link").hidden = false;
  return load();
}

async function leave() {
  const open = waiting.size;
  if (open && !confirm("Some answers are not kept yet and would be lost. Sign out all the same?")) return;
  const response = await request("POST", "/sign-out").catch(() => null);
  if (!response?.ok) return notice("Signing out did not work.");
  waiting.clear();
  location.href = "/";
}

async function copy() {
  const done = await navigator.clipboard?.writeText($("#own-link code").textContent).then(() => true, () => false);
  if (!done) getSelection().selectAllChildren($("#own-link code"));
  $("#copy").textContent = done ? "Copied" : "Copy it from above";
}

// Small things.

/** An element with a class; texts among its children stay texts. */
function make(tag, className = "", ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (tag === "button") element.type = "button";
  element.append(...children);
  return element;
}

const ownDirection = (element) => Object.assign(element, { dir: "auto" });

function hidden(element) {
  element.setAttribute("aria-hidden", "true");
  return element;
}

addEventListener("hashchange", arrive);
addEventListener("online", flush);
document.addEventListener("visibilitychange", refresh);
addEventListener("keydown", onKey);
addEventListener("pointerdown", () => (byKey = false));
addEventListener("beforeunload", (event) => (waiting.size || fieldsets().some(isDraft)) && event.preventDefault());
$("#questions").addEventListener("submit", (event) => event.preventDefault());
$("#sign-in").addEventListener("submit", signIn);
$("#leave").addEventListener("click", leave);
$("#copy").addEventListener("click", copy);
$("#help").addEventListener("click", () => (location.hash = "#instructions"));
$("#begin").addEventListener("click", () => go(shownAt ? place : Math.max(firstLeft(), 0)));
$("#fill").addEventListener("click", () => go(firstLeft()));
$("#first").addEventListener("click", () => go(firstLeft()));
$("#back").addEventListener("click", () => go(place - 1));
$("#next").addEventListener("click", () => go(place + 1));
load();
