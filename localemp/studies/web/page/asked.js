// What is asked: an A/B item asks each aspect once, a rated one asks each aspect of each reply.

/** What /items gave, whose answers these are, and the item that is shown: -1 before the first. */
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

/** What ratings mean: words stand for the lowest, the highest, and ratings between them that are equally far apart. */
export function wordsOf({ scale: [low, high], scale_words }) {
  const words = scale_words ?? ["lowest", "highest"];
  return new Map(words.map((word, i) => [low + (i * (high - low)) / (words.length - 1), word]));
}

/** Whether ratings are typed into fields: those that are not all one digit have no key, and soon are too many. */
export const isTyped = () => Boolean(here.study.scale) && (here.study.scale[0] < 0 || here.study.scale[1] > 9);
