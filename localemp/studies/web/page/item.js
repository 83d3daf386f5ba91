// One item: the conversation, its replies and the questions, by mouse, keyboard or touch.

import { choices, here, idOf, isTyped, item, items, questionsOf, wordsOf } from "./questions.js";
import { $, hidden, make, ownDirection } from "./elements.js";
import { changed, choose, isFailing, isUnsaved, said } from "./saving.js";

let current = 0; // the question that keys answer
let shown = ""; // the item's id
let shownAt = 0; // since when, by the page's clock
let byKey = false; // whether the last choice came from the keyboard
let onward = () => {}; // to the next item

export const fieldsets = () => [...document.querySelectorAll("#questions fieldset")];

/** Show the item at `here.place`; `next` goes to the one after it. */
export function fillItem(next) {
  const { study, place } = here;
  onward = next;
  if (shown !== item().id) [shown, shownAt] = [item().id, performance.now()];
  $("#talk h2").textContent = `Conversation ${place + 1} of ${items().length}`;
  $("#talk ol").replaceChildren(...item().turns.map(turn));
  $("#questions").replaceChildren(...(study.scale ? rated(item()) : compared(item())));
  $("#questions").classList.toggle("rating", Boolean(study.scale));
  current = 0;
  advance(false);
  showMarks();
}

function turn(text, i) {
  const who = i % 2 ? "Listener" : "Speaker";
  return make("li", who.toLowerCase(), make("span", "by", who), ownDirection(make("p", "", text)));
}

function replyCard(reply, number, ...more) {
  const text = reply.text.trim() ? make("p", "text", reply.text) : make("p", "text none", "(empty reply)");
  const card = make("article", "reply", make("h3", "", `Reply ${number}`), ownDirection(text), ...more);
  card.setAttribute("aria-label", `Reply ${number}`);
  return card;
}

function compared(one) {
  const pair = make("div", "pair", ...one.replies.map((reply, i) => replyCard(reply, i + 1)));
  const head = make("h3", "ask", here.study.question);
  return [pair, head, ...questionsOf(one).map((question, i) => fieldset(one, question, i))];
}

function rated(one) {
  const { aspects, question } = here.study;
  const cards = one.replies.map((reply, r) => {
    const own = aspects.map(({ name }, a) =>
      fieldset(one, { item: one.id, aspect: name, reply: reply.key }, r * aspects.length + a));
    return replyCard(reply, r + 1, ...own);
  });
  return [make("h3", "ask", question), scaleWords(), make("div", "cards", ...cards)];
}

function scaleWords() {
  const words = [...wordsOf(here.study)].map(([rating, word]) => `${rating}: ${word}`).join(", ");
  return make("p", "words", isTyped() ? `Whole numbers. ${words}` : words);
}

function fieldset(one, question, number) {
  const { about } = here.study.aspects.find(({ name }) => name === question.aspect);
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
  const { scale } = here.study;
  const input = make("input");
  Object.assign(input, { type: "radio", name: `question-${number}`, value, checked: said.get(idOf(question)) === value });
  input.addEventListener("change", () => {
    chooseNow(question, value);
    if (!byKey) advance(false, number);
  });
  const word = scale && wordsOf(here.study).get(value);
  const meaning = word ? [make("span", "unseen", `, ${word}`)] : [];
  const hint = scale ? [] : [hidden(make("kbd", "", key))];
  return make("label", "", input, make("span", "", label, ...meaning), ...hint);
}

function numberField(question, number) {
  const [low, high] = here.study.scale;
  const input = make("input");
  Object.assign(input, { type: "number", min: low, max: high, step: 1, autocomplete: "off", value: savedIn(question) });
  if (low >= 0) input.inputMode = "numeric"; // such keyboards may have no minus
  const error = Object.assign(make("p", "error"), { id: `error-${number}`, role: "alert" });
  input.setAttribute("aria-describedby", error.id);
  const keep = () => saveNumber(question, input, error);
  input.addEventListener("change", keep);
  input.addEventListener("blur", keep);
  input.addEventListener("input", () => {
    if (input.validity.valid) sayWrong(input, error, "");
    changed();
  });
  input.addEventListener("wheel", () => input.blur(), { passive: true }); // it scrolls, and changes no number
  input.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.isComposing) return;
    event.preventDefault();
    if (isEmpty(input)) onward();
    else if (keep()) advance(true, number);
  });
  return make("div", "typed", make("label", "", input, make("span", "", `${low} to ${high}`)), error);
}

/** Save the number in a field if it is valid; an emptied field gets its saved number back. */
function saveNumber(question, input, error) {
  const right = input.validity.valid;
  if (right && !isEmpty(input)) chooseNow(question, input.valueAsNumber);
  if (right) input.value = savedIn(question);
  const [low, high] = here.study.scale;
  const before = said.has(idOf(question)) ? ` ${savedIn(question)} still counts.` : "";
  sayWrong(input, error, right ? "" : `Not saved: enter a whole number from ${low} to ${high}.${before}`);
  changed();
  return right;
}

function sayWrong(input, error, why) {
  input.setAttribute("aria-invalid", Boolean(why));
  if (error.textContent !== why) error.textContent = why;
}

const chooseNow = (question, value) => choose(question, value, Math.round(performance.now() - shownAt) / 1000);
const savedIn = (question) => `${said.get(idOf(question)) ?? ""}`;
const isEmpty = (input) => !input.value && !input.validity.badInput;

/** Whether a field holds something other than its saved value. */
export function isDraft(fieldset) {
  const input = fieldset.querySelector("input[type=number]");
  return Boolean(input) && (input.validity.badInput || input.value !== `${said.get(fieldset.dataset.question) ?? ""}`);
}

export function showMarks() {
  for (const each of fieldsets()) {
    const id = each.dataset.question;
    const mark = each.querySelector(".mark");
    const told = !isUnsaved(id) ? "✓ saved" : isFailing() ? "not saved yet" : "…";
    mark.textContent = said.has(id) && !isDraft(each) ? told : "";
    mark.classList.toggle("warn", isUnsaved(id) && isFailing());
  }
}

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

/** Answer the current question by a key, if it is one that does. */
export function answerByKey(key) {
  if (isTyped()) return typeInto(fieldsets()[current], key);
  const wanted = !here.study.scale && /^t$/i.test(key) ? "0" : key;
  const number = choices(item()).findIndex((choice) => choice.key === wanted);
  const group = fieldsets()[current];
  if (number < 0 || !group) return false;
  const input = group.querySelectorAll("input")[number];
  input.checked = true;
  chooseNow(questionsOf(item())[current], choices(item())[number].value);
  advance(true, current);
  return true;
}

/** Let a digit, or a minus, go to the current field: it is typed there, since the field has the focus by then. */
function typeInto(fieldset, key) {
  if (fieldset && /^[-\d]$/.test(key)) focusOn(fieldset);
  return false;
}

addEventListener("keydown", () => (byKey = true), { capture: true });
addEventListener("pointerdown", () => (byKey = false), { capture: true });
$("#questions").addEventListener("submit", (event) => event.preventDefault());
