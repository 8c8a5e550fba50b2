/** Notices that come and go. Good news leaves by itself; trouble stays until it is put away. */
import { signal } from "../signals.js";

/** @import {Signal} from "../vendor/signals-core.js" */

const GOOD_MS = 5_000;
const SHOWN_MAX = 4;

/** @typedef {{id: number, text: string, bad: boolean, link?: {href: string, text: string}}} Toast */

/** @type {Signal<Toast[]>} */
export const toasts = signal([]);
let last = 0;

/**
 * @param {string} text
 * @param {{bad?: boolean, link?: {href: string, text: string}}} [more]
 */
export function tell(text, { bad = false, link } = {}) {
  const id = ++last;
  toasts.value = [...toasts.value.filter((toast) => toast.text !== text), { id, text, bad, link }].slice(-SHOWN_MAX);
  if (!bad) setTimeout(() => putAway(id), GOOD_MS);
}

/** @param {number} id */
export function putAway(id) {
  toasts.value = toasts.value.filter((toast) => toast.id !== id);
}
