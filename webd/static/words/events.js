/** What a message of the hive tells, as a glyph and a word in front of its text. Pure. */

/** @import {SystemEvent} from "../types/wire" */

/**
 * @typedef {object} Mark
 * @property {string} glyph
 * @property {string} word
 * @property {"" | "ok" | "on" | "bad"} tone
 */

/** @type {Record<SystemEvent, Mark>} */
const MARKS = {
  container_crash: { glyph: "✕", word: "crash", tone: "bad" },
  rebuilt: { glyph: "▲", word: "rebuilt", tone: "ok" },
  deployed: { glyph: "▲", word: "deployed", tone: "ok" },
  deploy_failed: { glyph: "✕", word: "not deployed", tone: "bad" },
  approved: { glyph: "◆", word: "approved", tone: "ok" },
  denied: { glyph: "✕", word: "denied", tone: "bad" },
  question: { glyph: "?", word: "question", tone: "on" },
  answered: { glyph: "◆", word: "answered", tone: "ok" },
  expired: { glyph: "◌", word: "expired", tone: "on" },
  reminder: { glyph: "◷", word: "reminder", tone: "" },
  rate_limited: { glyph: "◼", word: "rate-limited", tone: "bad" },
  resumed: { glyph: "●", word: "resumed", tone: "ok" },
  limit_hit: { glyph: "◼", word: "limit", tone: "bad" },
};

/**
 * The mark of an event; null for what somebody simply said. An event of a newer hive is shown by its name.
 * @param {SystemEvent | null} event
 * @returns {Mark | null}
 */
export const eventMark = (event) =>
  event === null ? null : (MARKS[event] ?? { glyph: "◇", word: event.replaceAll("_", " "), tone: "" });
