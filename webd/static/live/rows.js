/**
 * How arriving rows join those already shown. Pure: lists in, new lists out; nothing is mutated.
 *
 * A log (messages, turns, journal lines) is kept as a *window*: rows in order without holes. A snapshot that overlaps
 * the window extends it; one that does not replaces it, and what was let go can be loaded again from the top.
 */

/** @import {Delivery, Line, Message} from "../types/wire" */

/**
 * @template T
 * @typedef {object} Window
 * @property {T[]} rows     oldest first
 * @property {boolean} more whether older rows exist in webd
 */

/**
 * Rows of both lists in order of their id; where both have a row, the one of `fresh` stays.
 * @template T
 * @param {readonly T[]} known
 * @param {readonly T[]} fresh
 * @param {(row: T) => number} id
 * @returns {T[]}
 */
export function merge(known, fresh, id) {
  if (!fresh.length) return known.slice();
  if (!known.length || id(fresh[0]) > id(known[known.length - 1])) return [...known, ...fresh];
  /** @type {T[]} */
  const rows = [];
  let at = 0;
  for (const row of fresh) {
    while (at < known.length && id(known[at]) < id(row)) rows.push(known[at++]);
    if (at < known.length && id(known[at]) === id(row)) at++;
    rows.push(row);
  }
  return rows.concat(known.slice(at));
}

/**
 * The window after a snapshot of its newest rows.
 * @template T
 * @param {Window<T>} window
 * @param {T[]} newest         oldest first
 * @param {boolean} all        the snapshot holds everything there is
 * @param {(row: T) => number} id
 * @returns {Window<T>}
 */
export function renewed(window, newest, all, id) {
  const { rows } = window;
  const overlaps = rows.length > 0 && newest.length > 0 && id(newest[0]) <= id(rows[rows.length - 1]);
  if (!overlaps) return { rows: newest, more: !all };
  const older = rows.filter((row) => id(row) < id(newest[0]));
  return { rows: [...older, ...newest], more: older.length ? window.more : !all };
}

/**
 * The window with an older page put before it.
 * @template T
 * @param {Window<T>} window
 * @param {T[]} older
 * @param {boolean} more
 * @param {(row: T) => number} id
 * @returns {Window<T>}
 */
export const extended = (window, older, more, id) => ({ rows: merge(older, window.rows, id), more });

/**
 * The window without its oldest rows above `most`; they can be loaded again.
 * @template T
 * @param {Window<T>} window
 * @param {number} most
 * @returns {Window<T>}
 */
export const trimmed = (window, most) =>
  window.rows.length <= most ? window : { rows: window.rows.slice(window.rows.length - most), more: true };

export const message_id = (/** @type {Message} */ message) => message.id;
export const line_id = (/** @type {Line} */ line) => line.offset;

/**
 * The delivery that waits for the operator to read it, if there is one.
 * @param {Message} message
 * @returns {Delivery | undefined}
 */
export const unreadDelivery = (message) =>
  message.deliveries.find(
    (delivery) => delivery.recipient === "operator" && delivery.state !== "done" && delivery.state !== "dead",
  );

/**
 * Messages that ask for the operator: unread ones addressed to them and ones that could not be delivered.
 * @param {Iterable<Message>} messages
 * @param {number} since_ms    dead deliveries older than this have been lived with
 * @returns {Message[]}        longest waiting first
 */
export function wanting(messages, since_ms) {
  return [...messages]
    .filter(
      (message) =>
        unreadDelivery(message) || message.deliveries.some((d) => d.state === "dead" && d.changed_ms >= since_ms),
    )
    .sort((a, b) => a.id - b.id);
}

/**
 * The order to show rows in: `wanted`, or, while the reader points at the list, the order it had before with new
 * rows at the end and vanished ones kept in place (they are returned so that they can be shown as gone).
 * @template K
 * @param {readonly K[]} shown
 * @param {readonly K[]} wanted
 * @param {boolean} held
 * @returns {K[]}
 */
export function heldOrder(shown, wanted, held) {
  if (!held) return wanted.slice();
  const known = new Set(shown);
  return [...shown, ...wanted.filter((key) => !known.has(key))];
}
