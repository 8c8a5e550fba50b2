/**
 * The message filter: plain words, and `from:iris to:hm1nd is:dead #12`. Pure.
 * Every word must match; upper and lower case are one.
 */

/** @import {Message} from "../types/wire" */

/**
 * @typedef {object} Filter
 * @property {string[]} words
 * @property {string[]} from
 * @property {string[]} to
 * @property {string[]} is
 * @property {number[]} ids
 */

/**
 * @param {string} text
 * @returns {Filter}
 */
export function parseFilter(text) {
  /** @type {Filter} */
  const filter = { words: [], from: [], to: [], is: [], ids: [] };
  for (const word of text.toLowerCase().split(/\s+/).filter(Boolean)) {
    const [, field, value] = /^(from|to|is):(.+)$/.exec(word) ?? [];
    if (field === "from") filter.from.push(value);
    else if (field === "to") filter.to.push(value);
    else if (field === "is") filter.is.push(value);
    else if (/^#\d+$/.test(word)) filter.ids.push(Number(word.slice(1)));
    else filter.words.push(word);
  }
  return filter;
}

/**
 * @param {Filter} filter
 * @param {Message} message
 */
export function matches(filter, message) {
  const recipients = [message.to, ...message.deliveries.map((delivery) => delivery.recipient)];
  const said = `${message.sender} ${recipients.join(" ")} ${message.body}`.toLowerCase();
  return (
    filter.words.every((word) => said.includes(word)) &&
    filter.from.every((name) => message.sender.startsWith(name)) &&
    filter.to.every((name) => recipients.some((recipient) => recipient.startsWith(name))) &&
    filter.is.every((state) =>
      message.deliveries.some((delivery) => delivery.state.replace("_", "").startsWith(state.replace(/[-_ ]/, ""))),
    ) &&
    (!filter.ids.length || filter.ids.some((id) => message.id === id || message.thread === id))
  );
}

/**
 * Text cut where it matches a word, for highlighting: even pieces are plain, odd ones matched.
 * @param {string} text
 * @param {readonly string[]} words
 * @returns {string[]}
 */
export function highlighted(text, words) {
  if (!words.length) return [text];
  const escaped = words.map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  return text.split(new RegExp(`(${escaped.join("|")})`, "gi"));
}
