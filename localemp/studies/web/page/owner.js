// The owner's page of `localemp study serve`: progress and agreement, updated as answers come in.

import { $, make } from "./elements.js";

const EVERY = 10_000; // milliseconds

async function load() {
  const response = await fetch("/owner/progress").catch(() => null);
  const answer = await response?.json().catch(() => null);
  const problem = response?.ok ? "" : [answer?.message ?? "The server cannot be reached.", answer?.hint ?? ""].join(" ");
  $("#problem").hidden = !problem;
  $("#problem").textContent = problem;
  if (response?.ok) show(answer);
  setTimeout(load, EVERY);
}

function show({ title, items, checks, raters, coverage, agreement, few, imported, judges }) {
  $("#progress").hidden = false;
  $("h1").textContent = title;
  $("#none").hidden = raters.length > 0;
  $("#raters").hidden = !raters.length;
  $("#raters tbody").replaceChildren(...raters.map((rater) => raterRow(rater, items, checks)));
  $(".checks").hidden = !checks;
  $("#planned").hidden = !coverage;
  if (coverage) {
    const { annotators, items: rated, whole } = coverage;
    $("#planned").textContent = `${annotators} ${annotators === 1 ? "person" : "people"} should rate each item; ${whole} of ${rated} items have that many.`;
  }
  $("#agreement tbody").replaceChildren(...agreement.map((each) => agreementRow(each, few)));
  const answers = (many) => `${many} answer${many === 1 ? "" : "s"}`;
  const files = Object.entries(imported).map(([name, many]) => `${name} (${answers(many)})`);
  const also = [["Imported: ", files], ["Judges: ", judges]].filter(([, names]) => names.length);
  $("#also").hidden = !also.length;
  $("#also-who").textContent = also.map(([head, names]) => `${head}${names.join(", ")}. `).join("");
}

function raterRow({ name, done, last, missed, checked }, items, checks) {
  const bar = Object.assign(make("progress"), { max: items, value: done });
  bar.setAttribute("aria-label", `${done} of ${items} items`);
  const at = new Date(last).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" });
  const when = last ? at.replace(/ (?!\d\d:)/g, "\u00a0") : "not started"; // a line breaks before the time alone
  return make("tr", "", head(name), make("td", "bar", bar), make("td", "number", `${done} of ${items}`),
    ...(checks ? [make("td", "number", checked ? `${missed} of ${checked}` : "–")] : []), make("td", "", when));
}

function agreementRow({ aspect, units, items, equal, alpha, why }, few) {
  const share = equal === null ? "–" : `${Math.round(100 * equal)} %`;
  const figure = alpha === null ? "–" : alpha.toFixed(2);
  const note = [items && items < few ? `fewer than ${few} items: not meaningful yet` : "", why].filter(Boolean).join("; ");
  const name = head(aspect);
  if (note) name.append(make("small", "", note));
  return make("tr", "", name, make("td", "number", units), make("td", "number", share), make("td", "number", figure));
}

function head(text) {
  const element = make("th", "", text);
  element.scope = "row";
  return element;
}

load();
