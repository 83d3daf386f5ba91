// The questions: an A/B item asks for each aspect once, a rated item for each aspect of each reply.

/** The study from /items, the rater, and the place of the item shown; -1 is before the first. */
export const here = { study: null, rater: "", place: -1 };

export const items = () => here.study.items;
export const item = () => here.study.items[here.place];
export const idOf = ({ item, aspect, reply }) => JSON.stringify([item, aspect, reply]);

export function questionsOf({ id, replies }) {
  const ask = (reply) => here.study.aspects.map(({ name }) => ({ item: id, aspect: name, reply }));
  return here.study.scale ? replies.flatMap(({ key }) => ask(key)) : ask("");
}

export function choices(one) {
  if (!here.study.scale) {
    const [first, second] = one.replies;
    return [
      { value: first.key, label: "Reply 1", key: "1" },
      { value: "tie", label: "Equal", key: "0" },
      { value: second.key, label: "Reply 2", key: "2" },
    ];
  }
  const [low, high] = here.study.scale;
  const numbers = Array.from({ length: high - low + 1 }, (_, i) => low + i);
  return numbers.map((value) => ({ value, label: `${value}`, key: `${value}` }));
}

/** Return the words for ratings: for the lowest, the highest, and evenly spaced ones between them. */
export function wordsOf({ scale: [low, high], scale_words }) {
  const words = scale_words ?? ["lowest", "highest"];
  return new Map(words.map((word, i) => [low + (i * (high - low)) / (words.length - 1), word]));
}

/** Whether ratings are typed into fields: if not all are one digit, they have no key and may be many. */
export const isTyped = () => Boolean(here.study.scale) && (here.study.scale[0] < 0 || here.study.scale[1] > 9);
