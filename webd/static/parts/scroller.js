/**
 * A log that follows its end until the reader scrolls away, says how many rows came since, and loads older ones on top.
 * Whether it follows is decided when rows are about to be applied: deciding on scroll events alone loses readers.
 */
import { html, signal, useDerived, useEffect, useLayoutEffect, useMemo, useRef, useState } from "../html.js";
import { tell } from "../act/toasts.js";
import { beforeApply } from "../live/intake.js";
import { atEnd, scrollAfter } from "../words/sticking.js";

/** @import {ComponentChildren} from "../vendor/preact.js" */
/** @import {ReadonlySignal} from "../vendor/signals-core.js" */

/**
 * @typedef {object} ScrollerProps
 * @property {string} label
 * @property {string} kind                          class of the box
 * @property {ReadonlySignal<number>} added         rows ever added below
 * @property {boolean} more                         older rows exist
 * @property {string} [moreSays]                    why they are not shown
 * @property {() => Promise<void>} older            loads them
 * @property {ComponentChildren} [below]                        stands under the log; the pill hangs over it
 * @property {ComponentChildren} [children]
 */

/** What rows are grouped in; sizes of groups out of sight are guessed, so that they change once they are seen. */
const ROWS = ".turn, .chunk";

/** @param {HTMLElement} box */
const measured = (box) => ({ top: box.scrollTop, height: box.scrollHeight, view: box.clientHeight });

/** @param {ScrollerProps} props */
export function Scroller({ label, kind, added, more, moreSays, older, below, children }) {
  /** @type {import("../vendor/preact.js").RefObject<HTMLElement | null>} */
  const box = useRef(null);
  const sticks = useRef(true);
  /** What the reader looked at when older rows were asked for. */
  const anchor = useRef(/** @type {{row: Element, top: number} | null} */ (null));
  /** Rows added when the reader left the end; -1 while they are there. */
  const left_at = useMemo(() => signal(-1), []);
  const fresh = useDerived(() => (left_at.value < 0 ? 0 : added.value - left_at.value), [added]);
  const [loading, setLoading] = useState(false);

  const look = () => {
    if (!box.current) return;
    sticks.current = atEnd(measured(box.current));
    if (sticks.current) left_at.value = -1;
    else if (left_at.peek() < 0) left_at.value = added.peek();
  };
  const letGo = () => (anchor.current = null);
  useEffect(() => beforeApply(look), [added]);
  useLayoutEffect(() => {
    const root = box.current;
    const content = root?.firstElementChild;
    if (!root || !content) return undefined;
    const settle = () => {
      const held = anchor.current;
      const moved = held && held.row.getBoundingClientRect().top - held.top;
      const scroll = measured(root);
      const next = scrollAfter({ ...scroll, sticks: sticks.current, moved });
      if (next !== scroll.top) root.scrollTop = next;
    };
    const sizes = new ResizeObserver(settle);
    sizes.observe(content);
    sizes.observe(root);
    return () => sizes.disconnect();
  }, []);

  const toEnd = () => {
    if (!box.current) return;
    letGo();
    sticks.current = true;
    left_at.value = -1;
    box.current.scrollTop = box.current.scrollHeight;
    box.current.focus();
  };
  const load = async () => {
    const row = box.current?.querySelector(ROWS);
    setLoading(true);
    sticks.current = false;
    try {
      anchor.current = row ? { row, top: row.getBoundingClientRect().top } : null;
      await older();
    } catch (problem) {
      tell(`older rows: ${/** @type {Error} */ (problem).message}`, { bad: true });
    } finally {
      setLoading(false);
    }
  };
  return html`
    <section class="term" aria-label=${label}>
      <div class=${kind} role="log" aria-live="off" aria-label=${`${label}, oldest first`} tabindex="0" ref=${box}
        onScroll=${look}>
        <div>
          ${more &&
          html`<button class="btn quiet older" type="button" aria-busy=${loading ? "true" : undefined} onClick=${load}>
            ${moreSays ?? "load older"}
          </button>`}
          ${children}
        </div>
      </div>
      <div class="under">
        ${fresh.value > 0 &&
        html`<button class="btn pill" type="button" onClick=${toEnd}>↓ ${fresh.value} new</button>`}
        ${below}
      </div>
    </section>`;
}
