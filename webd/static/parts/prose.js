/** What somebody wrote, as text: `code` is set apart, filter words are marked, long texts fold. Never markup. */
import { html, useState } from "../html.js";
import { highlighted } from "../words/filter.js";
import { proseAndCode } from "../words/names.js";

const FOLD_CHARS = 420;
const FOLD_LINES = 6;

/** @param {string} text @param {readonly string[]} words */
const mark = (text, words) => highlighted(text, words).map((piece, i) => (i % 2 ? html`<mark>${piece}</mark>` : piece));

/** @param {{text: string, words?: readonly string[]}} props */
export const Prose = ({ text, words = [] }) =>
  proseAndCode(text).map((piece, i) => (i % 2 ? html`<code>${mark(piece, words)}</code>` : mark(piece, words)));

/** @param {{text: string, words?: readonly string[]}} props */
export function Folding({ text, words = [] }) {
  const [open, setOpen] = useState(false);
  const long = text.length > FOLD_CHARS || text.split("\n").length > FOLD_LINES;
  if (!long) return html`<${Prose} text=${text} words=${words} />`;
  return html`
    <span class=${open ? "" : "folded"}><${Prose} text=${text} words=${words} /></span>
    <button class="more" type="button" aria-expanded=${open ? "true" : "false"}
      onClick=${() => setOpen(!open)}>${open ? "less" : "more"}</button>`;
}
