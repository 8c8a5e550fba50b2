/**
 * Typed text survives everything: reloads, lost links, refusals, a closed form. One draft per place, kept in the tab.
 * A draft has the key its message will be sent under: the same text sent twice is one message.
 */
import { signal } from "../signals.js";
import { newKey } from "./post.js";

/** @import {Signal} from "../vendor/signals-core.js" */

const PREFIX = "hive.draft.";
const SENT_PREFIX = "hive.sent.";
const SENT_MAX = 30;

/**
 * @typedef {object} Draft
 * @property {Signal<string>} text
 * @property {(text: string) => void} type
 * @property {() => string} key      of the message this text will be
 * @property {() => void} sent       forget the text, remember it as sent
 */

/** @type {Map<string, Draft>} */
const drafts = new Map();

/**
 * @param {string} place
 * @returns {Draft}
 */
export function draft(place) {
  const known = drafts.get(place);
  if (known) return known;
  const text = signal(sessionStorage.getItem(PREFIX + place) ?? "");
  let key = "";
  /** @param {string} next */
  const type = (next) => {
    if (next === text.peek()) return;
    key = "";
    text.value = next;
    if (next) sessionStorage.setItem(PREFIX + place, next);
    else sessionStorage.removeItem(PREFIX + place);
  };
  const made = {
    text,
    type,
    key: () => (key ||= newKey()),
    sent: () => {
      remember(place, text.peek());
      type("");
    },
  };
  drafts.set(place, made);
  return made;
}

/**
 * What was sent from a place, newest last.
 * @param {string} place
 * @returns {string[]}
 */
export const sentFrom = (place) => JSON.parse(sessionStorage.getItem(SENT_PREFIX + place) ?? "[]");

/**
 * @param {string} place
 * @param {string} text
 */
function remember(place, text) {
  const before = sentFrom(place).filter((/** @type {string} */ earlier) => earlier !== text);
  sessionStorage.setItem(SENT_PREFIX + place, JSON.stringify([...before, text].slice(-SENT_MAX)));
}
