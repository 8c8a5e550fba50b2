/** T4IL: an agent's turns as they happen, each with what woke it, how long it took and what it used. */
import { html, useRef } from "../html.js";
import { get } from "../act/post.js";
import { zone } from "../live/clock.js";
import { Empty } from "../parts/head.js";
import { Scroller } from "../parts/scroller.js";
import { At, Since } from "../parts/times.js";
import { usage } from "../words/amounts.js";
import { duration } from "../words/times.js";
import { Event } from "./events.js";

/** @import {ComponentChildren, VNode} from "../vendor/preact.js" */
/** @import {Signal} from "../vendor/signals-core.js" */
/** @import {Chunk, Tail, TurnRows} from "../live/tail.js" */
/** @import {Turn, TurnEvent} from "../types/wire" */

const PAGE_EVENTS = 200;

/** What somebody wanted is amber, what went wrong is rose. @param {NonNullable<Turn["outcome"]>} outcome */
const tagOf = (outcome) => (outcome === "cancelled" || outcome === "interrupted" ? "tag no" : "tag bad");

/** @param {{turn: Turn}} props */
function Ended({ turn }) {
  if (turn.ended_ms === null) return html`<span class="on">running <${Since} ms=${turn.began_ms} as="timer" /></span>`;
  const used = usage(turn.usage);
  return html`
    <span>${duration(turn.ended_ms - turn.began_ms)}</span>
    ${used && html`<span class="used">${used}</span>`}
    ${turn.outcome !== null &&
    turn.outcome !== "done" &&
    html`<span class=${tagOf(turn.outcome)} title=${turn.detail}>${turn.outcome.replaceAll("_", " ")}</span>`}`;
}

/** @param {{turn: Signal<Turn | null>, id: number}} props */
function Heading({ turn, id }) {
  const told = turn.value;
  return html`
    <h2 id=${`turn-${id}`}>
      <b>turn ${id}</b>
      ${
        told &&
        html`<span class="says"><span>woke by ${told.woke_by === "operator" ? "the operator" : told.woke_by}</span><${At}
          ms=${told.began_ms} /><${Ended} turn=${told} /></span>`
      }
    </h2>`;
}

/**
 * At most a hundred rows. Those that stay as they were are handed over as the same nodes: preact passes them by.
 * @param {{chunk: Chunk, rows: TurnRows, last: boolean}} props
 */
function Rows({ chunk, rows, last }) {
  const drawn = useRef(/** @type {Map<number, {how: string, node: VNode}>} */ (new Map()));
  const running = rows.turn.value?.ended_ms === null;
  const events = chunk.value;
  const end = events[events.length - 1];
  const row = (/** @type {TurnEvent} */ event) => {
    const ends = last && event === end;
    const how = `${zone.value} ${running} ${ends}`;
    const before = drawn.current.get(event.n);
    if (before?.how === how) return before.node;
    const node = html`<${Event} key=${event.n} event=${event} zone=${zone.value} rows=${rows} running=${running}
      last=${ends} />`;
    drawn.current.set(event.n, { how, node });
    return node;
  };
  return html`<ol class="chunk">${events.map(row)}</ol>`;
}

/** @param {{rows: TurnRows}} props */
function TurnOf({ rows }) {
  const chunks = rows.chunks.value;
  const first = chunks[0]?.peek()[0]?.n ?? 1;
  return html`
    <li class="turn" aria-labelledby=${`turn-${rows.id}`} data-turn=${rows.id}>
      <${Heading} turn=${rows.turn} id=${rows.id} />
      ${first > 1 && html`<p class="gap">⋯ ${first - 1} earlier events of this turn are not shown</p>`}
      ${chunks.map((chunk, i) => html`<${Rows} key=${i} chunk=${chunk} rows=${rows} last=${i === chunks.length - 1} />`)}
    </li>`;
}

/** @param {{agent: string, tail: Tail, below?: ComponentChildren}} props */
export function TailOf({ agent, tail, below }) {
  const older = async () => {
    const page = await get(`/api/v1/log/tail:${agent}?before=${tail.oldest}&limit=${PAGE_EVENTS}`);
    tail.prepend(page);
  };
  const turns = tail.turns.value;
  const moreSays = tail.skipped.value ? "⋯ skipped while the link was lost · load" : "load older turns";
  return html`
    <${Scroller} label=${`turns of ${agent}`} kind="tail" added=${tail.added}
      more=${tail.more.value && turns.length > 0} moreSays=${moreSays} older=${older} below=${below}>
      ${turns.length > 0
        ? html`<ol>${turns.map((rows) => html`<${TurnOf} key=${rows.id} rows=${rows} />`)}</ol>`
        : html`<${Empty} title="no turn yet.">a message wakes ${agent}: write one below.<//>`}
    <//>`;
}
