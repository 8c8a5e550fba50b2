/** How far a message has come, in a word and a glyph. Pure. */

/** @import {Delivery, DeliveryState, Message} from "../types/wire" */

/**
 * @typedef {object} Progress
 * @property {string} glyph
 * @property {string} word
 * @property {"" | "ok" | "on" | "bad"} tone
 */

/** @type {Record<DeliveryState, Progress>} */
const PROGRESS = {
  held: { glyph: "◇", word: "held", tone: "on" },
  queued: { glyph: "◌", word: "queued", tone: "" },
  leased: { glyph: "◔", word: "leased", tone: "on" },
  in_turn: { glyph: "◐", word: "in turn", tone: "on" },
  done: { glyph: "✓", word: "done", tone: "ok" },
  dead: { glyph: "✕", word: "dead", tone: "bad" },
};

/**
 * One recipient's progress; the operator reads rather than runs turns.
 * @param {Delivery} delivery
 * @returns {Progress}
 */
export function progress(delivery) {
  const said = PROGRESS[delivery.state];
  if (delivery.recipient === "operator") {
    if (delivery.state === "done") return { ...said, word: "read" };
    if (delivery.state === "held") return said;
    if (delivery.state !== "dead") return { glyph: "◆", word: "unread", tone: "on" };
  }
  if (delivery.state === "in_turn" && delivery.turn !== null) return { ...said, word: `in turn ${delivery.turn}` };
  return said;
}

/**
 * The whole message's progress: the one recipient's, or how many of several are done.
 * @param {Message} message
 * @returns {Progress}
 */
export function overall({ deliveries }) {
  if (!deliveries.length) return { glyph: "·", word: "nobody", tone: "" };
  if (deliveries.length === 1) return progress(deliveries[0]);
  const done = deliveries.filter((delivery) => delivery.state === "done").length;
  if (done === deliveries.length) return { ...PROGRESS.done, word: `done ${done}/${done}` };
  const dead = deliveries.some((delivery) => delivery.state === "dead");
  const busy = deliveries.some((delivery) => delivery.state === "leased" || delivery.state === "in_turn");
  const { glyph, tone } = dead ? PROGRESS.dead : busy ? PROGRESS.in_turn : PROGRESS.queued;
  return { glyph, tone, word: `done ${done}/${deliveries.length}` };
}

/**
 * Whether a delivery to an agent may still move; what the operator has not read moves only by the operator.
 * @param {Message} message
 */
export const open = (message) =>
  message.deliveries.some(({ recipient, state }) => recipient !== "operator" && state !== "done" && state !== "dead");
