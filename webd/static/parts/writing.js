/**
 * A field to write a message in: enter sends, shift enter makes a line, the text is a draft until it has been sent, and
 * the arrow up brings back what was sent before.
 */
import { html, useEffect, useRef, valueTo } from "../html.js";
import { send } from "../act/deeds.js";
import { draft, sentFrom } from "../act/drafts.js";
import { Deed } from "./buttons.js";
import { Icon } from "./pictures.js";

/** @import {ComponentChildren} from "../vendor/preact.js" */

/**
 * @typedef {object} WritingProps
 * @property {string} place            where the draft belongs
 * @property {string} to
 * @property {number} [in_reply_to]
 * @property {string} label
 * @property {string} hint             placeholder
 * @property {ComponentChildren} [before]          what stands left of the text
 * @property {() => void} [onSent]
 * @property {(body: string) => Promise<unknown> | null} [order]   what is an order to the hive, and no message: obeys it
 * @property {string} [id]
 */

/** @param {WritingProps} props */
export function Writing({ place, to, in_reply_to, label, hint, before, onSent, order, id }) {
  const mine = draft(place);
  /** @type {import("../vendor/preact.js").RefObject<HTMLTextAreaElement | null>} */
  const field = useRef(null);
  const recalled = useRef(0);
  const deed = `send from ${place}`;
  const text = mine.text.value;

  const post = async () => {
    const body = mine.text.peek().trim();
    if (!body) return;
    const answer = await (order?.(body) ??
      send(deed, {
        to,
        body,
        key: mine.key(),
        ...(in_reply_to === undefined ? {} : { in_reply_to }),
      }));
    if (!answer) return; // the text stays: it has not been sent
    if (mine.text.peek().trim() === body) mine.sent();
    recalled.current = 0;
    onSent?.();
  };
  const recall = (/** @type {number} */ by) => {
    const sent = sentFrom(place);
    const next = Math.max(0, Math.min(sent.length, recalled.current + by));
    if (next === recalled.current) return;
    recalled.current = next;
    mine.type(next ? sent[sent.length - next] : "");
  };
  const key = (/** @type {KeyboardEvent} */ event) => {
    if (event.isComposing || event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      void post();
    } else if (event.key === "ArrowUp" && (!text || recalled.current)) {
      event.preventDefault();
      recall(1);
    } else if (event.key === "ArrowDown" && recalled.current) {
      event.preventDefault();
      recall(-1);
    }
  };
  const input = valueTo((typed) => {
    recalled.current = 0;
    mine.type(typed);
  });
  useEffect(() => {
    if (recalled.current) field.current?.setSelectionRange(text.length, text.length);
  }, [text]);
  return html`
    <div class="box">
      ${before}
      <textarea rows="1" id=${id} ref=${field} aria-label=${label} placeholder=${hint} value=${text} enterkeyhint="send"
        onInput=${input} onKeyDown=${key}></textarea>
      <${Deed} deed=${deed} tone="go icon" label="send" disabled=${!text.trim() || !to} run=${post}><${Icon}
        name="send" /><//>
    </div>`;
}
