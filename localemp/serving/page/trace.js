// The trace of a reply: what a strategy did before it.

import { make } from "./elements.js";

const RELATIONS = { xReact: "Feels", xWant: "Wants", xNeed: "Needs", xIntent: "Intends", xEffect: "Effects" };
const ANSWERS = { feeling: "Emotion and situation" };
const STEPS = { feeling: "Emotion inferred", reply: "Reply written" };
const CALLS = { candidate: "candidate not chosen", choice: "choice of a candidate" };

/** Return a trace as folded details: the answers before the reply, exemplars, inferences, every step. */
export function traceDetails(trace) {
  const summary = make("summary", "", "How this reply was made", make("span", "score", ` · ${seconds(trace.seconds.all)}`));
  return make("details", "trace", summary, ...[answers, exemplars, inferences, steps].flatMap((part) => part(trace)));
}

const part = (title, ...children) => [make("section", "", make("h3", "", title), ...children)];

/** Return what each stage before the reply answered: a label, the fields of its JSON, or a text. */
function answers({ stages }) {
  return stages.slice(0, -1).flatMap((stage) => part(ANSWERS[stage.name] ?? called(stage.name), ...answered(stage)));
}

function answered({ text, answer }) {
  if (typeof answer === "string") return [make("p", "", ...chip(answer))];
  if (!answer) return [make("p", "", text)];
  const value = (given) => (typeof given === "string" ? given : JSON.stringify(given));
  const rows = Object.entries(answer).flatMap(([name, given]) => [make("dt", "", name), make("dd", "", value(given))]);
  return [make("dl", "", ...rows)];
}

/** Return a call's name in words: "support strategy", "reply: candidate not chosen". */
function called(name) {
  const [stage, call] = name.replaceAll("_", " ").split(".");
  return call ? `${stage}: ${CALLS[call] ?? call}` : stage;
}

function exemplars({ exemplars: shown, stages }) {
  if (!shown?.length) return [];
  const dropped = stages.at(-1).exemplars_dropped;
  const list = make("ul", "", ...shown.map((one) => make("li", "", exemplar(one))));
  const note = `Left out to keep the prompt short enough: the last ${dropped} of ${shown.length}.`;
  const title = shown[0].score === null ? "Example dialogues" : "Example dialogues, most similar first";
  return part(title, list, ...(dropped ? [make("p", "who", note)] : []));
}

function exemplar({ turns, score }) {
  const summary = make("summary", "", make("span", "first", turns[0]), ...(score === null ? [] : [similarity(score)]));
  const lines = turns.map((turn, i) => make("li", "", make("span", "who", i % 2 ? "Listener: " : "Speaker: "), turn));
  return make("details", "exemplar", summary, make("ol", "", ...lines));
}

function similarity(score) {
  const bar = make("i");
  bar.style.setProperty("--part", `${100 * Math.max(score, 0)}%`);
  return make("span", "score", bar, make("span", "unseen", "similarity "), score.toFixed(2));
}

function inferences({ inferences: kept, inferences_dropped }) {
  const dropped = inferences_dropped ?? {};
  const relations = Object.keys({ ...RELATIONS, ...kept }).filter((name) => kept?.[name] || dropped[name]);
  if (!relations.length) return [];
  const rows = relations.flatMap((name) => [make("dt", "", relation(name)), make("dd", "", ...chips(kept?.[name]))]);
  return part("What the speaker may feel, want and need", make("dl", "", ...rows), ...notChosen(dropped));
}

const relation = (name) => RELATIONS[name] ?? name;
const chip = (text) => [make("span", "chip", text), " "];
const chips = (texts) => (texts?.length ? texts.flatMap(chip) : [make("span", "who", "none selected")]);

function notChosen(dropped) {
  const why = ({ reason, value }) => ` – ${reason}${value === null ? "" : ` (${value.toFixed(2)})`}`;
  const line = (name, one) => make("li", "", `${relation(name)}: ${one.text}`, make("span", "who", why(one)));
  const lines = Object.entries(dropped).flatMap(([name, all]) => all.map((one) => line(name, one)));
  if (!lines.length) return [];
  return [make("details", "", make("summary", "", `Dropped (${lines.length})`), make("ul", "", ...lines))];
}

function steps({ stages, seconds: spent }) {
  const figure = make("span", "who", ` · ${seconds(spent.lookup)}`);
  const lookup = spent.lookup >= 0.005 ? [make("p", "", "Lookup", figure)] : [];
  return part("Step by step", ...lookup, ...stages.map(step));
}

function step({ name, messages, notes, prompt_tokens, completion_tokens, seconds: spent }) {
  const counted = prompt_tokens === null ? "" : ` · ${prompt_tokens} tokens read, ${completion_tokens} written`;
  const figures = `${counted} · ${seconds(spent)}`;
  const sent = messages.map(({ role, content }) => make("div", "", make("span", "who", role), make("pre", "", content)));
  const opened = make("details", "", make("summary", "", "Messages sent to the model"), ...sent);
  const noted = (notes ?? []).map((note) => make("p", "who", note));
  return make("div", "", STEPS[name] ?? called(name), make("span", "who", figures), ...noted, opened);
}

const seconds = (number) => `${number.toFixed(number < 1 ? 2 : 1)} s`;
