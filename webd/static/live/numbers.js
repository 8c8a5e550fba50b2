/** Numbers that webd counts when it is asked: fetched now and then while somebody looks. */
import { signal } from "../signals.js";
import { get } from "../act/post.js";

/** @import {Statistics} from "../types/wire" */
/** @import {Signal} from "../vendor/signals-core.js" */

/**
 * @typedef {object} Numbers
 * @property {Signal<Statistics | null>} told
 * @property {Signal<string>} fault     why the last try told nothing new
 * @property {() => void} now           ask at once
 * @property {() => void} stop
 */

/**
 * @param {string} query        of `/api/stats`
 * @param {number} every_ms
 * @returns {Numbers}
 */
export function numbers(query, every_ms) {
  const told = signal(/** @type {Statistics | null} */ (null));
  const fault = signal("");
  let timer = 0;
  let stopped = false;
  let asking = false;

  async function ask() {
    clearTimeout(timer);
    if (asking || stopped) return;
    asking = true;
    try {
      const answer = await get(`/api/stats?${query}`);
      if (stopped) return;
      told.value = answer;
      fault.value = "";
    } catch (problem) {
      fault.value = /** @type {Error} */ (problem).message;
    } finally {
      asking = false;
    }
    if (!stopped) timer = window.setTimeout(later, every_ms);
  }
  const later = () => {
    if (!document.hidden) void ask(); // a hidden page asks when it is looked at again
  };
  document.addEventListener("visibilitychange", later);
  void ask();
  return {
    told,
    fault,
    now: () => void ask(),
    stop: () => {
      stopped = true;
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", later);
    },
  };
}
