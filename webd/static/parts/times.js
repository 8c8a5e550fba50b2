/** Times on the page: they move by themselves, and say exactly what they are on hover. */
import { html, useDerived } from "../html.js";
import { day, now_ms, zone } from "../live/clock.js";
import { absolute, age, clock, timer, wait } from "../words/times.js";

const WORDS = { age, timer, wait };

/**
 * How long it is since `ms`: `6m` (age), `1:17` (timer), `4m 12s` (wait).
 * @param {{ms: number, as?: keyof typeof WORDS, before?: string, after?: string}} props
 */
export function Since({ ms, as = "age", before = "", after = "" }) {
  const text = useDerived(() => `${before}${WORDS[as](now_ms.value - ms)}${after}`, [ms, as, before, after]);
  const title = useDerived(() => absolute(ms, zone.value), [ms]);
  return html`<time datetime=${new Date(ms).toISOString()} title=${title}>${text}</time>`;
}

/** `14:02:27`, with the day when it is another. @param {{ms: number}} props */
export function At({ ms }) {
  const text = useDerived(() => clock(ms, day.value ? now_ms.peek() : ms, zone.value), [ms]);
  const title = useDerived(() => absolute(ms, zone.value), [ms]);
  return html`<time datetime=${new Date(ms).toISOString()} title=${title}>${text}</time>`;
}
