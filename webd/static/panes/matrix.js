/** M4TR1X: what is said in the hive, newest first, with how far each message has come; a thread reads oldest first. */
import { html, useEffect, useMemo, useRef, useState, valueTo } from "../html.js";
import { get } from "../act/post.js";
import { filterText, openThread, setFilter, thread } from "../act/place.js";
import { tell } from "../act/toasts.js";
import { merge, message_id } from "../live/rows.js";
import { flow, hive, takeOlder } from "../live/store.js";
import { useHeld } from "../parts/held.js";
import { Guarded } from "../parts/guarded.js";
import { Empty, Head } from "../parts/head.js";
import { Row } from "./message.js";
import { count } from "../words/amounts.js";
import { matches, parseFilter } from "../words/filter.js";
import { Compose } from "./compose.js";

/** @import {Message} from "../types/wire" */
/** @import {Filter} from "../words/filter.js" */

const PAGE = 100;

/** The rows to show: those before the reader began to point at the list stay where they are; newer ones wait. */
function useWaiting(/** @type {Message[]} */ rows, /** @type {boolean} */ held) {
  const upTo = useRef(0);
  const newest = rows[rows.length - 1]?.id ?? 0;
  if (!held || !upTo.current) upTo.current = newest;
  const shown = rows.filter((row) => row.id <= upTo.current);
  return { shown, waiting: rows.length - shown.length, show: () => void (upTo.current = newest) };
}

function Older() {
  const [busy, setBusy] = useState(false);
  if (!flow.value.more) return null;
  const load = async () => {
    setBusy(true);
    try {
      const before = flow.peek().rows[0]?.id;
      const page = await get(`/api/v1/log/flow?before=${before}&limit=${PAGE}`);
      takeOlder(page.messages, page.more);
    } catch (problem) {
      tell(`older messages: ${/** @type {Error} */ (problem).message}`, { bad: true });
    } finally {
      setBusy(false);
    }
  };
  return html`<button class="btn quiet older" type="button" aria-busy=${busy ? "true" : undefined}
    onClick=${load}>load older</button>`;
}

/** All messages of a thread: those in the window, and those webd still has. @param {number} id */
function useThread(id) {
  const [older, setOlder] = useState(/** @type {Message[]} */ ([]));
  useEffect(() => {
    let wanted = true;
    get(`/api/v1/log/flow?thread=${id}&limit=${PAGE}`).then(
      (page) => wanted && setOlder(page.messages),
      (problem) => wanted && tell(`thread ${id}: ${problem.message}`, { bad: true }),
    );
    return () => void (wanted = false);
  }, [id]);
  return useMemo(() => {
    const known = new Map(older.filter((message) => message.thread === id).map((message) => [message.id, message]));
    for (const message of flow.value.rows) if (message.thread === id) known.set(message.id, message);
    return [...known.values()].sort((a, b) => a.id - b.id);
  }, [older, flow.value, id]);
}

/** @param {{id: number}} props */
function Thread({ id }) {
  const rows = useThread(id);
  return html`
    <p class="threadbar"><span>thread <b>#${id}</b> · ${count(rows.length, "message")}, oldest first</span>
      <button class="btn quiet" type="button" onClick=${() => openThread(null)}>all messages</button></p>
    <ol class="flow whole" aria-label=${`thread ${id}, oldest first`}>
      ${rows.map((message) => html`<${Row} key=${message.id} message=${message} words=${[]} whole />`)}
    </ol>`;
}

/** How long nothing must be typed before webd is asked. */
const SEARCH_AFTER_MS = 300;
const SEARCH_PAGE = 50;

/**
 * Messages beyond the window that have the filter's words, as webd finds them in all there are.
 * @param {readonly string[]} words
 */
function useSearch(words) {
  const text = words.join(" ");
  const [found, setFound] = useState({ text: "", rows: /** @type {Message[]} */ ([]), before: /** @type {number | null} */ (null), fault: "" });
  const ask = async (/** @type {number | null} */ before, /** @type {Message[]} */ known, /** @type {() => boolean} */ wanted) => {
    const query = new URLSearchParams({ q: text, limit: String(SEARCH_PAGE), ...(before === null ? {} : { before: String(before) }) });
    try {
      const page = await get(`/api/v1/search?${query}`);
      if (wanted()) setFound({ text, rows: merge(page.messages, known, message_id), before: page.before, fault: "" });
    } catch (problem) {
      if (wanted()) setFound({ text, rows: known, before: null, fault: /** @type {Error} */ (problem).message });
    }
  };
  useEffect(() => {
    if (!text) return undefined;
    let wanted = true;
    const timer = setTimeout(() => void ask(null, [], () => wanted), SEARCH_AFTER_MS);
    return () => {
      wanted = false;
      clearTimeout(timer);
    };
  }, [text]);
  const settled = found.text === text;
  return {
    rows: settled ? found.rows : [],
    fault: settled ? found.fault : "",
    busy: text !== "" && !settled,
    more: settled && found.before !== null ? () => ask(found.before, found.rows, () => true) : null,
  };
}

function Everything() {
  const [list, held] = useHeld();
  const [, again] = useState(0);
  const { shown, waiting, show } = useWaiting(flow.value.rows, held);
  const filter = useMemo(() => parseFilter(filterText.value), [filterText.value]);
  const filtering = filterText.value.trim() !== "";
  const search = useSearch(filter.words);
  const oldest = flow.value.rows[0]?.id ?? Infinity;
  const older = search.rows.filter((message) => message.id < oldest && matches({ ...filter, words: [] }, message));
  const loaded = filtering ? shown.filter((message) => matches(filter, message)) : shown;
  const rows = [...older, ...loaded];
  const newestFirst = rows.toReversed();
  return html`
    <div class="flowbox" ref=${list}>
      ${
        waiting > 0 &&
        html`<button class="btn pill" type="button"
          onClick=${() => (show(), again((n) => n + 1))}>↑ ${waiting} new</button>`
      }
      <ol class="flow" aria-label="messages, newest first">
        ${newestFirst.map((message) => html`<${Guarded} key=${message.id} what=${`message ${message.id}`}><${Row} message=${message} words=${filter.words} /><//>`)}
      </ol>
      ${
        !rows.length &&
        (filtering
          ? html`<${Empty} title=${search.busy ? "looking through all messages…" : "no message matches."}>${noneSays(filter, shown.length)}<//>`
          : html`<${Empty}
            title="nothing has been said yet.">write to an agent above; what agents say to each other lands here too.<//>`)
      }
      ${search.fault && html`<p class="fine" role="status">older messages could not be searched: ${search.fault}</p>`}
      ${
        filter.words.length
          ? search.more && html`<button class="btn quiet older" type="button" onClick=${search.more}>search further back</button>`
          : html`<${Older} />`
      }
    </div>`;
}

/**
 * Where was looked: words are searched in all messages, the rest of a filter in those that are loaded.
 * @param {Filter} filter
 * @param {number} loaded
 */
const noneSays = (filter, loaded) =>
  filter.words.length
    ? "all messages that the hive has kept were searched."
    : `this filter looks at what is loaded: ${count(loaded, "message")}.`;

export function Matrix() {
  const hour = hive.value?.totals.messages_hour ?? 0;
  const escape = (/** @type {KeyboardEvent} */ event) =>
    event.key === "Escape" && filterText.peek() && (event.preventDefault(), setFilter(""));
  return html`
    <section id="matrix" aria-labelledby="h-flow">
      <${Head} id="h-flow" title="M4TR1X" plain="message flow" tone="green"
        says=${`${count(hour, "message")} this hour`}>
        <div class="flow-tools">
          <input class="field" id="filter" type="search" aria-label="filter messages" placeholder="filter  /"
            title="words, from:iris, to:hm1nd, is:dead, #12" value=${filterText.value}
            onInput=${valueTo(setFilter)} onKeyDown=${escape} />
        </div>
      <//>
      <${Compose} />
      ${thread.value === null ? html`<${Everything} />` : html`<${Thread} id=${thread.value} />`}
    </section>`;
}
