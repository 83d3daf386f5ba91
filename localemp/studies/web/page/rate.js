// The page of `localemp study serve`: from signing in and the instructions to the last item.

import { here, isTyped, items } from "./questions.js";
import { $, make } from "./elements.js";
import { answerByKey, fieldsets, fillItem, isDraft, showMarks } from "./item.js";
import {
  firstLeft, forget, howMany, isAnswered, isFailing, left, notice, onChange, request, said, take,
} from "./saving.js";

const VIEWS = ["away", "stranger", "welcome", "work", "end"];

function show(view) {
  for (const each of VIEWS) $(`#${each}`).hidden = each !== view;
  $("footer").hidden = !(view === "work" || view === "end");
  $("#help").hidden = !here.study || view === "welcome";
  if (view === "work" || view === "end") showState();
  window.scrollTo(0, 0);
}

// The address ends in the number of the item, so that the browser's own "back" works.

function go(to) {
  const wrong = $("#questions [aria-invalid=true]");
  if (wrong && !$("#work").hidden) return wrong.focus(); // gone, it would be forgotten
  if (location.hash !== `#${to + 1}`) history.pushState(null, "", `#${to + 1}`); // at once, unlike location.hash
  arrive();
}

const next = () => go(here.place + 1);
const back = () => here.place > 0 && go(here.place - 1);

function arrive() {
  if (!here.study) return;
  const number = Number(location.hash.slice(1));
  if (!Number.isInteger(number) || number < 1) return showWelcome();
  if (number > items().length) return showEnd();
  here.place = number - 1;
  showItem();
}

/** Return the place of the first unanswered item after the last answer. */
function whereStopped(last) {
  const from = items().findIndex(({ id }) => id === last);
  const after = [...items().slice(from), ...items()].find((one) => !isAnswered(one));
  return after ? items().indexOf(after) : items().length;
}

function showWelcome() {
  show("welcome");
  $("#begin").textContent = said.size ? "Continue" : "Begin";
  $("#begin").focus();
}

function showItem() {
  fillItem(next);
  show("work");
  $("#talk h2").focus({ preventScroll: true });
  $("#talk ol").scrollTop = $("#talk ol").scrollHeight;
}

function showEnd() {
  here.place = items().length;
  show("end");
  const open = left();
  $("#end h2").textContent = open ? "That was the last item" : "Thank you. You have finished.";
  $("#end p").textContent = open
    ? `${open} of ${items().length} items are not fully answered.`
    : "You can still go back and change your answers.";
  $("#fill").hidden = !open;
  (open ? $("#fill") : $("#end h2")).focus();
}

function showState() {
  const { place } = here;
  const { unsaved } = howMany();
  const done = items().length - left();
  $("progress").max = items().length;
  $("progress").value = done;
  $("#count").textContent = `${Math.min(place + 1, items().length)} of ${items().length}`;
  $("#count").title = `${done} answered`;
  const all = said.size && !fieldsets().some(isDraft) ? "all saved" : "";
  $("#saved").textContent = isFailing() ? `${unsaved} not saved yet` : unsaved ? "saving …" : all;
  $("#saved").className = isFailing() ? "warn" : "";
  $("#back").disabled = place === 0;
  $("#next").disabled = place >= items().length;
  $("#first").disabled = firstLeft() < 0 || firstLeft() === place;
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || $("#work").hidden) return;
  if (event.target.closest("input[type=number]")) return; // its keys are its own
  const onButton = event.target.closest("button, a");
  if (event.key === "ArrowRight" || (event.key === "Enter" && !onButton)) next();
  else if (event.key === "ArrowLeft") back();
  else if (!answerByKey(event.key)) return;
  event.preventDefault();
}

// Signing in and out.

async function load() {
  const response = await request("GET", "/items").catch(() => null);
  if (!response?.ok && response?.status !== 401) {
    show("away");
    return setTimeout(load, 3000);
  }
  const answer = await response.json();
  if (response.status === 401) return showStranger(answer.signup);
  here.study = answer.study;
  here.rater = answer.rater;
  take(answer.answers);
  document.title = here.study.title;
  $("h1").textContent = here.study.title;
  $("#who span").textContent = here.rater;
  $("#who").hidden = false;
  fillWelcome();
  if (!answer.answers.length) history.replaceState(null, "", "/"); // the instructions come first
  else if (!location.hash) return go(whereStopped(answer.answers.at(-1)[0]));
  arrive();
}

/** Load what was answered elsewhere while this page was hidden. */
async function refresh() {
  const before = howMany();
  if (document.hidden || !here.study || before.unsaved) return;
  const answer = await request("GET", "/items").then((response) => response.ok && response.json()).catch(() => null);
  if (!answer || howMany().chosen !== before.chosen) return;
  if (answer.rater !== here.rater) return location.reload();
  if (!take(answer.answers)) return;
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
  const { instructions, aspects, scale } = here.study;
  const paragraphs = instructions.split(/\n\s*\n/).filter((text) => text.trim());
  $("#instructions").replaceChildren(...paragraphs.map((text) => make("p", "", text.trim())));
  $("#aspects").replaceChildren(...aspects.flatMap(({ name, about }) => [make("dt", "", name), make("dd", "", about)]));
  const key = (name) => make("kbd", "", name);
  const onward = [key("→"), " or ", key("Enter"), " goes to the next item, ", key("←"), " goes back."];
  const keys = isTyped()
    ? ["type a whole number, ", key("Enter"), " saves it and goes to the next question. Outside a field, "]
    : scale
    ? [key(`${scale[0]}`), " to ", key(`${scale[1]}`), " rate, "]
    : [key("1"), " and ", key("2"), " choose a reply, ", key("0"), " or ", key("T"), " means that they are equal, "];
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
  const open = howMany().unsaved;
  if (open && !confirm("Some answers are not saved yet and would be lost. Sign out anyway?")) return;
  const response = await request("POST", "/sign-out").catch(() => null);
  if (!response?.ok) return notice("Signing out failed.");
  forget();
  location.href = "/";
}

async function copy() {
  const done = await navigator.clipboard?.writeText($("#own-link code").textContent).then(() => true, () => false);
  if (!done) getSelection().selectAllChildren($("#own-link code"));
  $("#copy").textContent = done ? "Copied" : "Copy it from above";
}

onChange(showState, showMarks);
addEventListener("hashchange", arrive);
addEventListener("keydown", onKey);
addEventListener("beforeunload", (event) => (howMany().unsaved || fieldsets().some(isDraft)) && event.preventDefault());
document.addEventListener("visibilitychange", refresh);
$("#sign-in").addEventListener("submit", signIn);
$("#leave").addEventListener("click", leave);
$("#copy").addEventListener("click", copy);
$("#help").addEventListener("click", () => (location.hash = "#instructions"));
$("#begin").addEventListener("click", () => go(here.place < 0 ? Math.max(firstLeft(), 0) : here.place));
$("#fill").addEventListener("click", () => go(firstLeft()));
$("#first").addEventListener("click", () => go(firstLeft()));
$("#back").addEventListener("click", back);
$("#next").addEventListener("click", next);
load();
