/** Differences of files in rows and words. Pure. */
import { count, size } from "./amounts.js";

/** @import {DiffLine, FileDiff} from "../types/configuration" */

/**
 * Lines of a file as rows; where lines are left out because nothing changes there, a row says how many.
 * @param {readonly DiffLine[]} lines
 * @returns {(DiffLine | {skipped: number})[]}
 */
export function rowsOf(lines) {
  /** @type {(DiffLine | {skipped: number})[]} */
  const rows = [];
  let before = 0;
  let after = 0;
  for (const line of lines) {
    const skipped = line.after !== null ? line.after - after - 1 : line.before !== null ? line.before - before - 1 : 0;
    if (skipped > 0) {
      rows.push({ skipped });
      before += skipped;
      after += skipped;
    }
    if (line.before !== null) before = line.before;
    if (line.after !== null) after = line.after;
    rows.push(line);
  }
  return rows;
}

/** How much was put in and taken out. @param {readonly DiffLine[]} lines */
export const tally = (lines) => ({
  added: lines.filter(({ kind }) => kind === "+").length,
  removed: lines.filter(({ kind }) => kind === "-").length,
});

/** `new, 300 B`, `removed`, `28 B → 1.2 KiB`. @param {FileDiff} file */
export function sizesWords({ before_bytes, after_bytes }) {
  if (after_bytes === null) return "removed";
  if (before_bytes === null) return `new, ${size(after_bytes)}`;
  return before_bytes === after_bytes ? size(after_bytes) : `${size(before_bytes)} → ${size(after_bytes)}`;
}

/** All of them in a few words: `2 files, +13 −4`. @param {readonly FileDiff[]} files */
export function differenceWords(files) {
  const { added, removed } = tally(files.flatMap(({ lines }) => lines));
  const cut = files.some(({ cut }) => cut) ? ", and more" : "";
  return `${count(files.length, "file")}, +${added} −${removed}${cut}`;
}
