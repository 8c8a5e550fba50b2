/** SCH3DUL3S: what agents will be reminded of, the next first: when, how often, how it went, and what can be done about it. */
import { html, useDerived, useRef, useState } from "../html.js";
import { changeReminder } from "../act/deeds.js";
import { get } from "../act/post.js";
import { tell } from "../act/toasts.js";
import { day, now_ms, zone } from "../live/clock.js";
import { heldOrder } from "../live/rows.js";
import { reminders } from "../live/store.js";
import { Armed, Deed } from "../parts/buttons.js";
import { Guarded } from "../parts/guarded.js";
import { useHeld } from "../parts/held.js";
import { Head } from "../parts/head.js";
import { Icon } from "../parts/pictures.js";
import { Folding } from "../parts/prose.js";
import { count } from "../words/amounts.js";
import { dueWords, outcomeWords, scheduleWords } from "../words/schedules.js";
import { absolute, ZONE_NAME } from "../words/times.js";
import { Who } from "./message.js";
import { Change, Remind } from "./remind.js";

/** @import {Reminder} from "../types/wire" */

const SHOWN_MAX = 4;
const PAGE = 50;

/** @param {{ms: number}} props */
function Due({ ms }) {
  const text = useDerived(() => day.value && dueWords(ms, now_ms.value, zone.value), [ms]);
  const title = useDerived(() => absolute(ms, zone.value), [ms]);
  return html`<time class="due" datetime=${new Date(ms).toISOString()} title=${title}>${text}</time>`;
}

/** @type {Record<Reminder["state"], string>} */
const ENDED = { active: "", ended: "fired", cancelled: "cancelled" };

/** @param {{reminder: Reminder}} props */
function Row({ reminder }) {
  const [editing, setEditing] = useState(false);
  const { id, agent, body, set_by, only_if, next_ms, state } = reminder;
  const active = state === "active";
  return html`
    <li class=${`schedule ${state}`} data-reminder=${id}>
      ${next_ms !== null && active ? html`<${Due} ms=${next_ms} />` : html`<span class="due">${ENDED[state] || "being sent"}</span>`}
      <span class="for"><${Who} name=${agent} /></span>
      <div class="said"><${Folding} text=${body} />
        <p class="tags"><span class="tag">${scheduleWords(reminder.schedule, ZONE_NAME)}</span>
          ${only_if !== null && html`<span class="tag only" title=${only_if}>only if <code>${only_if}</code></span>`}
          ${set_by !== agent && html`<span class="fine">set by ${set_by}</span>`}
          <span class=${`fine went ${reminder.failed ? "bad" : ""}`}>${outcomeWords(reminder)}</span></p>
      </div>
      ${active &&
      html`<span class="acts">
        <${Deed} deed=${`fire reminder ${id}`} tone="quiet" doing="firing…" label=${`fire reminder ${id} now`}
          run=${() => changeReminder("fire", id)}>fire<//>
        <button class="btn quiet" type="button" aria-expanded=${editing ? "true" : "false"}
          aria-label=${`edit reminder ${id}`} onClick=${() => setEditing(!editing)}>edit</button>
        <${Armed} deed=${`cancel reminder ${id}`} tone="quiet" armed="sure?" doing="cancelling…"
          label=${`cancel reminder ${id}`} run=${() => changeReminder("cancel", id)}>cancel<//>
      </span>`}
      ${active && editing && html`<${Change} reminder=${reminder} done=${() => setEditing(false)} />`}
    </li>`;
}

/** Ids stay below this: what is older than it is everything. */
const NEWER_THAN_ALL = Number.MAX_SAFE_INTEGER;
/** So many come with the stream; those that are due later are asked for. */
const STREAMED_MAX = 100;

/**
 * Reminders that the stream does not bring, page by page.
 * @param {{says: string, label: string, none: string, query: (last: Reminder | undefined) => string, over: boolean}} props
 */
function Pages({ says, label, none, query, over }) {
  const [rows, setRows] = useState(/** @type {Reminder[]} */ ([]));
  const [more, setMore] = useState(true);
  const [busy, setBusy] = useState(false);
  const load = async () => {
    setBusy(true);
    try {
      const page = await get(`/api/v1/reminders?limit=${PAGE}&${query(rows[rows.length - 1])}`);
      setRows([...rows, ...page.reminders]);
      setMore((over ? page.before : page.after) !== null);
    } catch (problem) {
      tell(`${says}: ${/** @type {Error} */ (problem).message}`, { bad: true });
    } finally {
      setBusy(false);
    }
  };
  return html`
    ${rows.length > 0 && html`<ol class=${`schedules ${over ? "over" : ""}`} aria-label=${label}>${rows.map((row) => html`<${Row} key=${row.id} reminder=${row} />`)}</ol>`}
    ${
      more
        ? html`<button class="btn quiet older" type="button" aria-busy=${busy ? "true" : undefined} onClick=${load}>${says}</button>`
        : !rows.length && html`<p class="fine">${none}</p>`
    }`;
}

const Over = () => html`<${Pages} says="ended ones" label="reminders that are over" none="none is over yet." over
  query=${(/** @type {Reminder | undefined} */ last) => `ended=1&before=${last?.id ?? NEWER_THAN_ALL}`} />`;

/** @param {{after: string}} props */
const Later = ({ after }) => html`<${Pages} key=${after} says="later ones" label="reminders that are due later" none="none is due later."
  over=${false} query=${(/** @type {Reminder | undefined} */ last) => `after=${last?.id ?? after}`} />`;

const byDue = (/** @type {Reminder} */ a, /** @type {Reminder} */ b) => (a.next_ms ?? 0) - (b.next_ms ?? 0) || a.id - b.id;

export function Schedules() {
  const [list, held] = useHeld();
  const [all, setAll] = useState(false);
  const [making, setMaking] = useState(false);
  const shown = useRef(/** @type {string[]} */ ([]));
  const wanted = [...reminders.value.values()].sort(byDue).map((row) => String(row.id));
  shown.current = heldOrder(shown.current, wanted, held).filter((key) => held || reminders.value.has(key));
  const rows = all ? shown.current : shown.current.slice(0, SHOWN_MAX);
  return html`
    <section id="schedules" aria-labelledby="h-schedules">
      <${Head} id="h-schedules" title="SCH3DUL3S" plain="schedules" says=${wanted.length ? `${count(wanted.length, "reminder")}, the next first` : "no reminders"}>
        <button class="btn quiet" type="button" aria-expanded=${making ? "true" : "false"}
          onClick=${() => setMaking(!making)}><${Icon} name="clock" />remind</button>
      <//>
      ${making && html`<${Remind} done=${() => setMaking(false)} />`}
      <div ref=${list}>
        <ol class="schedules" aria-label="reminders, the next first">
          ${rows.map((key) => {
            const reminder = reminders.value.get(key);
            return reminder
              ? html`<${Guarded} key=${key} what=${`reminder ${key}`}><${Row} reminder=${reminder} /><//>`
              : html`<li class="schedule gone" key=${key}><span class="due">gone</span></li>`;
          })}
        </ol>
        ${shown.current.length > SHOWN_MAX &&
        html`<button class="btn quiet unfold" type="button" aria-expanded=${all ? "true" : "false"}
          onClick=${() => setAll(!all)}>${all ? "fewer" : `all ${shown.current.length}`}</button>`}
        ${all && wanted.length >= STREAMED_MAX && html`<${Later} after=${wanted[wanted.length - 1]} />`}
      </div>
      <${Over} />
    </section>`;
}
