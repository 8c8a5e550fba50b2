/** One cage's journal as the page keeps it: a window of lines, and how many were added below. */
import { batch, signal } from "../signals.js";
import { extended, line_id, merge, renewed, trimmed } from "./rows.js";

/** @import {Signal} from "../vendor/signals-core.js" */
/** @import {Line} from "../types/wire" */
/** @import {Window} from "./rows.js" */

export const LINES_KEPT_MAX = 5_000;

export class Journal {
  /** @type {Signal<Window<Line>>} */
  lines = signal({ rows: [], more: true });
  added = signal(0);

  /** @param {Line[]} newest */
  renew(newest) {
    this.lines.value = renewed(this.lines.peek(), newest, newest.length === 0 || newest[0].offset === 0, line_id);
  }

  /** @param {Line} line */
  take(line) {
    const window = this.lines.peek();
    const known = window.rows[window.rows.length - 1];
    if (known && line.offset <= known.offset) return; // replayed
    batch(() => {
      this.lines.value = trimmed({ ...window, rows: merge(window.rows, [line], line_id) }, LINES_KEPT_MAX);
      this.added.value++;
    });
  }

  /**
   * @param {Line[]} older
   * @param {boolean} more
   */
  prepend(older, more) {
    this.lines.value = extended(this.lines.peek(), older, more, line_id);
  }

  get oldest() {
    return this.lines.peek().rows[0]?.offset ?? null;
  }
}
