/** Times on the page: they move by themselves, and say exactly what they are on hover. */
import { html, useDerived } from "../html.js";
import { day, now_ms, zone } from "../live/clock.js";
import { absolute, age, clock, timer, until, wait } from "../words/times.js";

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

/** `15:20`, with the day when it is another. @param {{ms: number, before?: string}} props */
export function Until({ ms, before = "" }) {
  const text = useDerived(() => before + until(ms, day.value ? now_ms.peek() : ms, zone.value), [ms, before]);
  const title = useDerived(() => absolute(ms, zone.value), [ms]);
  return html`<time datetime=${new Date(ms).toISOString()} title=${title}>${text}</time>`;
}

/** `4m 12s left`, counting down; `over` at the end. @param {{ms: number}} props */
export function Left({ ms }) {
  const text = useDerived(() => (ms > now_ms.value ? `${wait(ms - now_ms.value)} left` : "over"), [ms]);
  const title = useDerived(() => absolute(ms, zone.value), [ms]);
  return html`<time datetime=${new Date(ms).toISOString()} title=${title}>${text}</time>`;
}
