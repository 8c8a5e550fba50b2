/**
 * Y3R C4LL: what waits for the operator in one queue, longest waiting first: proposals, agents in trouble, letters,
 * failed deliveries, threads that went on for too long.
 */
import { html, useRef, useState } from "../html.js";
import { dismiss, markAllRead, markRead, retry, settleThread, wake, wield } from "../act/deeds.js";
import { draft } from "../act/drafts.js";
import { heldOrder, unreadDelivery } from "../live/rows.js";
import { callCount, letters, parked, proposed, troubled } from "../live/store.js";
import { Armed, Deed } from "../parts/buttons.js";
import { Card } from "../parts/card.js";
import { Guarded } from "../parts/guarded.js";
import { useHeld } from "../parts/held.js";
import { Empty, Head } from "../parts/head.js";
import { Icon } from "../parts/pictures.js";
import { Folding } from "../parts/prose.js";
import { down, tone } from "../parts/state.js";
import { Writing } from "../parts/writing.js";
import { count } from "../words/amounts.js";
import { eventMark } from "../words/events.js";
import { ProposalCard } from "./proposal.js";

/** @import {Agent, Message, ParkedThread} from "../types/wire" */
/** @import {ComponentChildren} from "../vendor/preact.js" */

/** @param {{message: Message}} props */
const Numbered = ({ message }) => html`<a href=${`/?thread=${message.thread}#matrix`}>#${message.id}</a>`;

/** @type {Partial<Record<Agent["state"], string>>} */
const KIND = { crashed: "crashed", failed: "failed", parked: "needs you" };

/** @param {{agent: Agent}} props */
const Trouble = ({ agent }) => html`
  <${Card} id=${`call-${agent.name}`} colour=${agent.state === "parked" ? "amber" : "rose"} name=${agent.name}
    tone=${tone(agent)} kind=${KIND[agent.state] ?? agent.state}
    since_ms=${agent.since_ms} says=${agent.inbox ? `${agent.inbox} in its inbox wait` : "its inbox is empty"}>
    <p class="why">${agent.detail || agent.doing || "it did not say why: its journal may."}</p>
    <div class="acts">
      ${
        down(agent)
          ? html`<${Deed} deed=${`start ${agent.name}`} tone="go" doing="starting…"
            run=${() => wield("start", agent.name)}><${Icon} name="start" />start<//>`
          : html`<${Deed} deed=${`wake ${agent.name}`} tone="go" doing="waking…"
            run=${() => wake(agent.name)}>try again<//><a class="btn" href=${`/agent/${agent.name}/`}>open</a>`
      }
      <a class="btn" href=${`/agent/${agent.name}/journal`}>journal</a>
    </div>
  <//>`;

/** @param {{message: Message}} props */
function Letter({ message }) {
  const place = `reply ${message.id}`;
  const [writing, setWriting] = useState(() => draft(place).text.peek() !== "");
  const answered = () => void markRead(message);
  const answers = message.in_reply_to !== null && ` · answers #${message.in_reply_to}`;
  return html`
    <${Card} id=${`call-m${message.id}`} colour="amber" name=${message.sender}
      kind=${eventMark(message.event)?.word ?? "message"}
      since_ms=${message.sent_ms}
      says=${html`<${Numbered} message=${message} />${message.broadcast && " · to everyone"}${answers}`}>
      <div class="why said"><${Folding} text=${message.body} /></div>
      ${
        writing &&
        html`<div class="reply"><${Writing} place=${place} to=${message.sender} in_reply_to=${message.id}
          label=${`reply to ${message.sender}`} hint=${`answer ${message.sender}`} onSent=${answered} /></div>`
      }
      <div class="acts">
        <${Deed} deed=${`read ${message.id}`} tone="go" doing="marking…" run=${() => markRead(message)}><${Icon}
          name="check" />read<//>
        ${message.sender !== "system" &&
        html`<button class="btn" type="button" aria-expanded=${writing ? "true" : "false"} onClick=${() => setWriting(!writing)}>
          <${Icon} name="reply" />reply
        </button>`}
      </div>
    <//>`;
}

/** @param {{message: Message}} props */
function Undelivered({ message }) {
  const dead = message.deliveries.filter((delivery) => delivery.state === "dead");
  return html`
    <${Card} id=${`call-d${message.id}`} colour="rose" name=${dead[0]?.recipient ?? message.to} tone="rose"
      kind="not delivered" since_ms=${dead[0]?.changed_ms ?? message.sent_ms}
      says=${html`<${Numbered} message=${message} /> from ${message.sender} · ${dead[0]?.attempts ?? 0} tries`}>
      <div class="why said"><${Folding} text=${message.body} /></div>
      <div class="acts">
        <${Deed} deed=${`retry ${message.id}`} tone="go" doing="queueing…" run=${() => retry(message)}><${Icon}
          name="restart" />retry<//>
        <button class="btn" type="button" onClick=${() => dismiss(message)}>put aside</button>
      </div>
    <//>`;
}

/** @param {{thread: ParkedThread}} props */
function Held({ thread: { thread, agents, hops, held, since_ms } }) {
  return html`
    <${Card} id=${`call-t${thread}`} colour="amber" name=${agents[0] ?? "system"} tone="amber" kind="kept from going on"
      since_ms=${since_ms}
      says=${html`<a href=${`/?thread=${thread}#matrix`}>thread #${thread}</a> · ${count(held, "message")} held`}>
      <p class="why">${agents.join(" and ")} answered each other ${count(hops, "time")} with nobody from outside.</p>
      <div class="acts">
        <${Deed} deed=${`release thread ${thread}`} tone="go" doing="releasing…"
          run=${() => settleThread("release", thread)}><${Icon} name="start" />release<//>
        <${Armed} deed=${`close thread ${thread}`} doing="closing…" armed="sure? what is held is lost"
          run=${() => settleThread("close", thread)}>close<//>
      </div>
    <//>`;
}

/** What was dealt with while the reader points here stays, greyed, until they look away. @param {{id: string}} props */
const Dealt = ({ id }) => html`<p class="card call dealt" key=${id}><${Icon} name="check" /> dealt with</p>`;

/** @returns {Map<string, {since_ms: number, card: ComponentChildren}>} */
function queue() {
  /** @type {[string, {since_ms: number, card: ComponentChildren}][]} */
  const rows = [
    ...troubled.value.map(
      (agent) =>
        /** @type {[string, any]} */ ([
          `agent ${agent.name}`,
          { since_ms: agent.since_ms, card: html`<${Trouble} agent=${agent} />` },
        ]),
    ),
    ...proposed.value.map(
      (proposal) =>
        /** @type {[string, any]} */ ([
          `proposal ${proposal.agent}/${proposal.number}`,
          { since_ms: proposal.proposed_ms, card: html`<${ProposalCard} proposal=${proposal} />` },
        ]),
    ),
    ...[...parked.value.values()].map(
      (thread) =>
        /** @type {[string, any]} */ ([
          `thread ${thread.thread}`,
          { since_ms: thread.since_ms, card: html`<${Held} thread=${thread} />` },
        ]),
    ),
    ...letters.value.map((message) => {
      const card = unreadDelivery(message)
        ? html`<${Letter} message=${message} />`
        : html`<${Undelivered} message=${message} />`;
      return /** @type {[string, any]} */ ([`message ${message.id}`, { since_ms: message.sent_ms, card }]);
    }),
  ];
  return new Map(rows.sort(([, a], [, b]) => a.since_ms - b.since_ms));
}

/** Cards shown at once, wide and narrow (there by prefs.css); the rest unfolds. */
const SHOWN_MAX = 8;
const PHONE_MAX = 2;
/** Letters that one click marks as read. */
const READ_MAX = 100;

/** Letters can be put away together. */
function AllRead() {
  const unread = letters.value.filter((message) => unreadDelivery(message)).slice(0, READ_MAX);
  if (unread.length < 2) return null;
  return html`<${Deed} deed="read all" tone="quiet" doing="marking…" run=${() => markAllRead(unread)}>read all ${unread.length}<//>`;
}

export function Calls() {
  const [list, held] = useHeld();
  const [all, setAll] = useState(false);
  const shown = useRef(/** @type {string[]} */ ([]));
  const rows = queue();
  shown.current = heldOrder(shown.current, [...rows.keys()], held);
  const cards = all ? shown.current : shown.current.slice(0, SHOWN_MAX);
  return html`
    <section class="calls" id="calls" aria-labelledby="h-calls" ref=${list}>
      <${Head} id="h-calls" title="Y3R C4LL" plain="your call: what waits for you" tone="amber"
        after=${shown.current.length ? `${rows.size} waiting` : "all quiet"}><${AllRead} /><//>
      <div class=${all ? "slots" : "slots few"}>
        ${cards.map((id) => html`<div class="slot" key=${id}><${Guarded} what=${id}>${rows.get(id)?.card ?? html`<${Dealt} />`}<//></div>`)}
      </div>
      ${
        shown.current.length > PHONE_MAX &&
        html`<button class=${`btn quiet unfold ${shown.current.length > SHOWN_MAX ? "" : "narrow-only"}`} type="button"
        aria-expanded=${all ? "true" : "false"} onClick=${() => setAll(!all)}>
        ${all ? "fewer" : `all ${shown.current.length}`}
      </button>`
      }
      ${
        !shown.current.length &&
        !callCount.value &&
        html`<${Empty} title="nothing waits for you.">proposals, agents in trouble, questions and messages to you land here.<//>`
      }
    </section>`;
}
