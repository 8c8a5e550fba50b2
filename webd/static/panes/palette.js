/** ctrl k: every agent, pane and action by a few letters. What ends something asks for a second enter. */
import { html, signal, useLayoutEffect, useMemo, useRef, useState, valueTo } from "../html.js";
import { cancelTurn, pause, signOut, wield } from "../act/deeds.js";
import { toggleSingleKeys, singleKeys } from "../act/keyboard.js";
import { toggleZone, zone } from "../live/clock.js";
import { agents, drafts, judged, kept, manager, names } from "../live/store.js";
import { Icon } from "../parts/pictures.js";
import { down } from "../parts/state.js";
import { fit, marked } from "../words/fuzzy.js";
import { openKeySheet } from "./keysheet.js";

/** @import {Agent} from "../types/wire" */
/** @import {IconName} from "../parts/pictures.js" */

const SHOWN_MAX = 12;
const open = signal(false);

export function openPalette() {
  open.value = true;
}

/**
 * @typedef {object} Item
 * @property {string} text
 * @property {IconName} icon
 * @property {string} [keys]
 * @property {string} [says]      what it is now
 * @property {boolean} [ends]     asks for a second enter
 * @property {string} [href]
 * @property {() => unknown} [run]
 */

/** @param {Agent} agent @returns {Item[]} */
function aboutAgent(agent) {
  const { name } = agent;
  /** @type {Item[]} */
  const power = down(agent)
    ? [{ text: `start ${name}`, icon: "start", run: () => wield("start", name) }]
    : [
        { text: `restart ${name}`, icon: "restart", ends: true, run: () => wield("restart", name) },
        { text: `stop ${name}`, icon: "stop", ends: true, run: () => wield("stop", name) },
      ];
  if (agent.state === "thinking")
    power.unshift({ text: `cancel the turn of ${name}`, icon: "x", ends: true, run: () => cancelTurn(name) });
  return [
    { text: `files of ${name}`, icon: "box", href: `/agent/${name}/state` },
    { text: `stats of ${name}`, icon: "stats", href: `/agent/${name}/stats` },
    { text: `journal of ${name}`, icon: "journal", href: `/agent/${name}/journal` },
    { text: `configuration of ${name}`, icon: "tail", href: `/agent/${name}/config` },
    ...(judged.value.usable
      ? [
          ...power,
          agent.paused
            ? { text: `resume ${name}`, icon: /** @type {const} */ ("start"), run: () => pause("resume", name) }
            : { text: `pause ${name}`, icon: /** @type {const} */ ("pause"), run: () => pause("pause", name) },
          { text: `destroy ${name}…`, icon: /** @type {const} */ ("x"), ends: true, run: () => wield("destroy", name) },
        ]
      : []),
  ];
}

/** @returns {Item[]} */
function everything() {
  const swarm = names.value.map((name) => agents.value.get(name)?.value).filter((agent) => agent !== undefined);
  return [
    ...swarm.map((agent) => ({
      text: agent.name,
      says: agent.state,
      icon: /** @type {const} */ ("tail"),
      href: `/agent/${agent.name}/`,
    })),
    { text: "swarm", icon: "swarm", keys: "g s", href: "/#swarm" },
    { text: "your call", icon: "call", keys: "g c", href: "/#calls" },
    { text: "deployments", icon: "deploy", keys: "g d", href: "/#deploys" },
    { text: "questions", icon: "question", keys: "g q", href: "/#questions" },
    { text: "schedules, reminders", icon: "clock", keys: "g r", href: "/#schedules" },
    { text: "matrix, message flow", icon: "matrix", keys: "g m", href: "/#matrix" },
    ...(drafts.value.size ? [{ text: "drafts", icon: /** @type {const} */ ("box"), href: "/#drafts" }] : []),
    ...(kept.value.size ? [{ text: "kept state", icon: /** @type {const} */ ("box"), href: "/#kept" }] : []),
    ...(manager.value
      ? [
          {
            text: "journal",
            icon: /** @type {const} */ ("journal"),
            keys: "g j",
            href: `/agent/${manager.value}/journal`,
          },
        ]
      : []),
    ...swarm.flatMap(aboutAgent),
    { text: "what is deployed, meta", icon: "box", href: "/meta" },
    { text: "keys that decide, enrol a passkey", icon: "keys", href: "/enrol" },
    { text: zone.value === "utc" ? "show local time" : "show UTC", icon: "clock", keys: "t", run: toggleZone },
    { text: "keys", icon: "keys", keys: "?", run: openKeySheet },
    {
      text: singleKeys.value ? "switch single keys off" : "switch single keys on",
      icon: "keys",
      run: toggleSingleKeys,
    },
    { text: "sign out", icon: "x", run: signOut },
  ];
}

/** @param {string} query */
function found(query) {
  return everything()
    .map((item) => ({ item, how: fit(query, item.text) }))
    .filter(({ how }) => how !== null)
    .sort((a, b) => (query ? (b.how?.score ?? 0) - (a.how?.score ?? 0) : 0))
    .slice(0, SHOWN_MAX)
    .map(({ item, how }) => ({ item, at: query ? (how?.at ?? []) : [] }));
}

/** @param {string} text @param {number[]} at */
const pieces = (text, at) => marked(text, at).map((piece, i) => (i % 2 ? html`<u>${piece}</u>` : piece));

/**
 * @typedef {{item: Item, at: number[], id: string, selected: boolean, armed: boolean}} Shown
 * @param {Shown & {choose: () => void, point: () => void}} props
 */
const Option = ({ item, at, id, selected, armed, choose, point }) => html`
  <li role="option" id=${id} aria-selected=${selected ? "true" : "false"} class=${item.ends ? "danger" : ""}
    onClick=${choose} onPointerMove=${point}>
    <${Icon} name=${item.icon} />
    ${armed ? html`<span>sure? enter again</span>` : html`<span><b>${pieces(item.text, at)}</b>${" "}${item.says}</span>`}
    ${(item.keys || selected) && html`<kbd>${item.keys ?? "enter"}</kbd>`}
  </li>`;

export function Palette() {
  return open.value ? html`<${Open} />` : null;
}

function Open() {
  const [query, setQuery] = useState("");
  const [at, setAt] = useState(0);
  const [armed, setArmed] = useState("");
  /** @type {import("../vendor/preact.js").RefObject<HTMLDialogElement | null>} */
  const dialog = useRef(null);
  useLayoutEffect(() => dialog.current?.showModal(), []); // before the next key comes: it is meant for the field
  const items = useMemo(() => found(query), [query, agents.value, zone.value, singleKeys.value]);
  const move = (/** @type {number} */ next) => {
    setAt(Math.max(0, Math.min(items.length - 1, next)));
    setArmed("");
  };
  const choose = (/** @type {Item} */ item) => {
    if (item.ends && armed !== item.text) {
      setArmed(item.text);
      return;
    }
    dialog.current?.close();
    if (item.href) location.assign(item.href);
    else item.run?.();
  };
  const key = (/** @type {KeyboardEvent} */ event) => {
    if (event.key === "ArrowDown") move(at + 1);
    else if (event.key === "ArrowUp") move(at - 1);
    else if (event.key === "Enter" && items[at]) choose(items[at].item);
    else return;
    event.preventDefault();
  };
  const type = valueTo((typed) => {
    setQuery(typed);
    move(0);
  });
  return html`
    <dialog class="palette" ref=${dialog} aria-label="jump" onClose=${() => (open.value = false)} onKeyDown=${key}
      onClick=${(/** @type {Event} */ event) => event.target === dialog.current && dialog.current?.close()}>
      <div class="ask">
        <span aria-hidden="true">❯</span>
        <input role="combobox" aria-label="jump to" aria-expanded="true" aria-controls="pal" aria-autocomplete="list"
          aria-activedescendant=${items.length ? `pal-${at}` : undefined}
          autocomplete="off" spellcheck=${false} value=${query} onInput=${type} placeholder="an agent, a pane, something to do" />
      </div>
      <ul role="listbox" id="pal" aria-label="results">
        ${items.map(
          ({ item, at: matched }, i) => html`
            <${Option} key=${item.text} id=${`pal-${i}`} item=${item} at=${matched} selected=${i === at}
              armed=${armed === item.text} choose=${() => choose(item)}
              point=${() => i !== at && move(i)} />`,
        )}
      </ul>
      ${!items.length && html`<p class="none">nothing is called that</p>`}
    </dialog>`;
}
