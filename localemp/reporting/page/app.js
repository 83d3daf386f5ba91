// The case study: search, filters, pages. Only the current page is drawn. elements.js comes first.

function showCaseStudy({ systems, texts, dialogues }) {
  const [search, emotion, which, found, place, list, previous, next] = [
    "search", "emotion", "which", "found", "place", "dialogues", "previous", "next",
  ].map((id) => document.getElementById(id));
  const PAGE = 10;
  let chosen = dialogues, first = 0, words = [];

  const kinds = {
    "": () => true,
    all: ({ replies }) => replies.every((reply) => reply?.text !== undefined),
    same: ({ replies }) => {
      const said = replies.filter((reply) => reply?.text !== undefined).map((reply) => reply.text);
      return new Set(said).size < said.length;
    },
    missing: ({ replies }) => replies.some((reply) => reply?.text === undefined),
  };

  // The text to search in a dialogue: all turns, replies and stages; not the prompts, which are all alike.
  function haystack(dialogue) {
    dialogue.haystack ??= [
      dialogue.id, dialogue.emotion ?? "", ...dialogue.turns.map((turn) => texts[turn]),
      ...["situation", "reference"].map((name) => texts[dialogue[name]] ?? ""),
      ...dialogue.replies.flatMap((reply) => (reply?.stages ?? []).map((stage) => texts[stage.text])),
      ...dialogue.replies.map((reply) => texts[reply?.text ?? reply?.error] ?? ""),
    ].join("\n").toLowerCase();
    return dialogue.haystack;
  }

  function choose() {
    words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    chosen = dialogues.filter(
      (dialogue) =>
        (!emotion.value || dialogue.emotion === emotion.value) && kinds[which.value](dialogue) &&
        words.every((word) => haystack(dialogue).includes(word)),
    );
    first = 0;
    draw();
  }

  function draw() {
    list.replaceChildren(...chosen.slice(first, first + PAGE).map(drawDialogue));
    const of = dialogues.length.toLocaleString("en"), count = chosen.length.toLocaleString("en");
    found.textContent = chosen.length === dialogues.length ? `${of} dialogues` : `${count} of ${of} dialogues`;
    document.querySelector(".pages").hidden = chosen.length <= PAGE;
    const last = Math.min(first + PAGE, chosen.length);
    place.textContent = `${(first + 1).toLocaleString("en")} to ${last.toLocaleString("en")} of ${count}`;
    previous.disabled = first === 0;
    next.disabled = last === chosen.length;
  }

  function turn(pages) {
    first += pages * PAGE;
    draw();
    document.getElementById("cases").scrollIntoView();
  }

  function drawDialogue(dialogue) {
    const talk = make("dl", "talk");
    if (dialogue.situation !== undefined) talk.append(make("dt", "", "Situation"), said("dd", texts[dialogue.situation]));
    dialogue.turns.forEach((number, index) => {
      talk.append(make("dt", "", index % 2 ? "Listener" : "Speaker"), said("dd", texts[number]));
    });
    const replies = make("div", "replies");
    if (dialogue.reference !== undefined) {
      replies.append(make("section", "reply reference", make("h4", "", "Human reply"), said("p", texts[dialogue.reference])));
    }
    replies.append(...dialogue.replies.map((reply, index) => drawReply(systems[index], reply)));
    const head = make("h3", "", ...marked(dialogue.id));
    if (dialogue.emotion) head.append(make("b", "", ...marked(dialogue.emotion)));
    const article = make("article", "case", head, talk, replies);
    article.setAttribute("aria-label", `Dialogue ${dialogue.id}`);
    return article;
  }

  function drawReply(system, reply) {
    const box = make("section", "reply", make("h4", "", system));
    if (reply?.text === undefined) {
      box.append(make("p", "none", ...(reply ? ["failed: ", ...marked(texts[reply.error])] : ["no reply"])));
      return box;
    }
    box.append(texts[reply.text] ? said("p", texts[reply.text]) : make("p", "none", "(empty reply)"));
    box.append(later(reply.stages.length > 1 ? `${reply.stages.length} stages` : "1 stage", () => [
      ...lookedUp(reply), ...reply.stages.map((stage, index) => drawStage(stage, index)),
    ]));
    return box;
  }

  function lookedUp({ exemplars, inferences }) {
    const parts = [];
    if (exemplars) {
      const lines = exemplars.map(([id, score]) => (score === null ? id : `${id}  cosine ${score.toFixed(4)}`));
      parts.push(make("div", "stage", make("h5", "", "Exemplars"), make("pre", "", lines.join("\n"))));
    }
    if (inferences) {
      const lines = Object.entries(inferences).map(([name, all]) => `${name}: ${all.join(", ") || "(none)"}`);
      parts.push(make("div", "stage", make("h5", "", "Inferences"), make("pre", "", lines.join("\n"))));
    }
    return parts;
  }

  function drawStage(stage, index) {
    const told = [
      stage.prompt_tokens !== undefined && `${stage.prompt_tokens} tokens read`,
      stage.completion_tokens !== undefined && `${stage.completion_tokens} written`,
      stage.thinking_tokens !== undefined && `${stage.thinking_tokens} of them thinking`,
      stage.seconds !== undefined && `${stage.seconds.toFixed(2)} s`,
      stage.answer !== undefined && `read as ${typeof stage.answer === "string" ? stage.answer : JSON.stringify(stage.answer)}`,
      stage.finish_reason && stage.finish_reason !== "stop" && `ended by ${stage.finish_reason}`,
      stage.exemplars_dropped && `${stage.exemplars_dropped} exemplars dropped`,
    ].filter(Boolean);
    return make("div", "stage",
      make("h5", "", `Stage ${index + 1}: ${stage.name}`), said("p", texts[stage.text]), make("small", "", told.join(", ")),
      later("Prompt", () => stage.messages.flatMap(([role, number]) => [make("small", "", role), make("pre", "", texts[number])])));
  }

  // Return a details element that is filled when it is opened.
  function later(name, fill) {
    const details = make("details", "", make("summary", "", name));
    details.addEventListener("toggle", () => details.append(...fill()), { once: true });
    return details;
  }

  function said(tag, text) {
    return make(tag, "", ...marked(text));
  }

  // Return a text with the searched words marked.
  function marked(text) {
    if (!words.length) return [text];
    const escaped = words.map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
    return text.split(new RegExp(`(${escaped.join("|")})`, "gi")).map((part, index) => (index % 2 ? make("mark", "", part) : part));
  }

  const emotions = [...new Set(dialogues.map((dialogue) => dialogue.emotion).filter(Boolean))].sort();
  emotion.append(...emotions.map((name) => new Option(name, name)));
  let waiting;
  search.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(choose, 150);
  });
  for (const control of [emotion, which]) control.addEventListener("change", choose);
  previous.addEventListener("click", () => turn(-1));
  next.addEventListener("click", () => turn(1));
  const form = document.querySelector(".controls");
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  emotion.parentElement.hidden = emotions.length < 2;
  which.parentElement.hidden = systems.length < 2;
  choose();
}

const data = document.getElementById("cases-data");
if (data) showCaseStudy(JSON.parse(data.textContent));
