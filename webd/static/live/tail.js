/**
 * One agent's turns as the page keeps them. A turn's events lie in chunks of at most 100, each a signal of its own, so
 * that an event that arrives draws one chunk again and never the whole tail.
 */
import { batch, signal } from "../signals.js";

/** @import {Signal} from "../vendor/signals-core.js" */
/** @import {TailPage, ToolReturned, Turn, TurnEvent} from "../types/wire" */

export const CHUNK_EVENTS = 100;
/** Turns are let go from the top once the page holds more events than this. */
export const EVENTS_KEPT_MAX = 6_000;

/**
 * @typedef {Signal<TurnEvent[]>} Chunk
 * @typedef {object} TurnRows
 * @property {number} id
 * @property {Signal<Turn | null>} turn           null until webd has told of it
 * @property {Signal<Chunk[]>} chunks
 * @property {Map<string, Signal<ToolReturned | null>>} returned   by call: what came back
 * @property {number} last_n
 * @property {number} events
 */

export class Tail {
  /** Oldest first. @type {Signal<TurnRows[]>} */
  turns = signal([]);
  /** Whether webd has older turns. */
  more = signal(true);
  /** Rows ever added below: what the reader has not seen is counted from it. */
  added = signal(0);
  /** The oldest turn shown is so because the link was lost for long, not because the reader got that far. */
  skipped = signal(false);

  /** @param {TailPage} page  the newest turns, whole */
  renew(page) {
    batch(() => {
      const known = this.turns.peek();
      const first = page.turns[0]?.id ?? 0;
      const newest = known[known.length - 1]?.id ?? 0;
      if (!page.turns.length || first > newest) {
        this.skipped.value = known.length > 0 && page.turns.length > 0;
        this.turns.value = [];
        this.more.value = page.more;
      }
      this.#join(page);
    });
  }

  /** @param {{turn?: Turn, event?: TurnEvent}} news */
  take({ turn, event }) {
    const of = turn?.id ?? event?.turn ?? 0;
    if (this.more.peek() && of < (this.oldest ?? 0)) return; // a turn that was let go comes back whole or not at all
    batch(() => {
      if (turn) this.#rows(turn.id).turn.value = turn;
      if (event) this.#append(this.#rows(event.turn), event);
      this.#trim();
    });
  }

  /** @param {TailPage} page  whole turns, older than all shown */
  prepend(page) {
    batch(() => {
      const added = this.added.peek();
      this.#join(page);
      this.added.value = added;
      this.more.value = page.more;
      this.skipped.value = false;
    });
  }

  get oldest() {
    return this.turns.peek()[0]?.id ?? null;
  }

  /** @param {TailPage} page */
  #join({ turns, events }) {
    for (const turn of turns) this.#rows(turn.id).turn.value = turn;
    for (const event of events) this.#append(this.#rows(event.turn), event);
  }

  /** @param {number} id */
  #rows(id) {
    const turns = this.turns.peek();
    let at = turns.length;
    while (at > 0 && turns[at - 1].id > id) at--;
    if (at > 0 && turns[at - 1].id === id) return turns[at - 1];
    /** @type {TurnRows} */
    const rows = { id, turn: signal(null), chunks: signal([]), returned: new Map(), last_n: 0, events: 0 };
    this.turns.value = turns.toSpliced(at, 0, rows);
    return rows;
  }

  /**
   * @param {TurnRows} rows
   * @param {TurnEvent} event
   */
  #append(rows, event) {
    if (event.n <= rows.last_n) return; // replayed: already here
    rows.last_n = event.n;
    if (event.kind === "tool_returned") {
      const call = rows.returned.get(event.call);
      if (call) {
        call.value = event;
        return;
      }
    }
    if (event.kind === "tool_called") rows.returned.set(event.call, signal(null));
    rows.events++;
    this.added.value++;
    const chunks = rows.chunks.peek();
    const last = chunks[chunks.length - 1];
    if (last && last.peek().length < CHUNK_EVENTS) last.value = [...last.peek(), event];
    else rows.chunks.value = [...chunks, signal([event])];
  }

  #trim() {
    const turns = this.turns.peek();
    let events = turns.reduce((sum, rows) => sum + rows.events, 0);
    let from = 0;
    while (events > EVENTS_KEPT_MAX && from < turns.length - 1) events -= turns[from++].events;
    if (!from) return;
    this.turns.value = turns.slice(from);
    this.more.value = true;
  }
}
