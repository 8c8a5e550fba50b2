/** What is known about an agent now: its facts, its last hour, what waits in its inbox, and how to part with it. */
import { html } from "../html.js";
import { now_ms, zone } from "../live/clock.js";
import { flow, reminders } from "../live/store.js";
import { Destroy } from "../parts/power.js";
import { Generation } from "../parts/deployed.js";
import { Head } from "../parts/head.js";
import { Pulse } from "../parts/pictures.js";
import { Since } from "../parts/times.js";
import { count, money, short } from "../words/amounts.js";
import { Limits, WayOut } from "./bounds.js";
import { dueWords } from "../words/schedules.js";

/** @import {ComponentChildren} from "../vendor/preact.js" */
/** @import {Agent} from "../types/wire" */
/** @import {Tail} from "../live/tail.js" */

const QUEUE_SHOWN = 6;

/** @param {{term: string, children?: ComponentChildren}} props */
const Fact = ({ term, children }) => html`<div><dt>${term}</dt><dd>${children}</dd></div>`;

/** @param {{agent: Agent}} props */
const Now = ({ agent }) => html`
  <section aria-labelledby="h-now">
    <${Head} id="h-now" title="N0W" plain="now" />
    <dl class="facts">
      <${Fact} term="doing">${agent.doing || "nothing"}<//>
      <${Fact} term="turn">${agent.turn ?? "none"}<//>
      <${Fact} term="last turn">
        ${agent.last_turn_ms === null ? "never" : html`<${Since} ms=${agent.last_turn_ms} after=" ago" />`}
      <//>
      <${Fact} term="up">${agent.up_since_ms === null ? "down" : html`<${Since} ms=${agent.up_since_ms} />`}<//>
      <${Fact} term="inbox">${agent.inbox || "empty"}<//>
      <${Fact} term="runner">${agent.runner}${agent.model ? ` · ${agent.model}` : ""}<//>
      <${Fact} term="account">${agent.account}<//>
      <${Fact} term="cage">${agent.backend}<//>
      <${Fact} term="generation"><${Generation} agent=${agent} /><//>
    </dl>
  </section>`;

/** What the turns shown have used. @param {Tail} tail */
function used(tail) {
  let [read, written, cost] = [0, 0, 0];
  for (const { turn } of tail.turns.value) {
    const usage = turn.value?.usage;
    if (!usage) continue;
    read += usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens;
    written += usage.output_tokens;
    cost += usage.cost_microusd;
  }
  return { read, written, cost };
}

/** @param {{agent: Agent, tail: Tail}} props */
function LastHour({ agent, tail }) {
  const { read, written, cost } = used(tail);
  const turns = agent.pulse.reduce((sum, n) => sum + n, 0);
  return html`
    <section aria-labelledby="h-pulse">
      <${Head} id="h-pulse" title="PUL5E" plain="pulse" after="last hour" />
      <div class="pulse-wide"><${Pulse} pulse=${agent.pulse} wide /></div>
      <dl class="facts">
        <${Fact} term="turns">${turns}<//>
        ${read + written > 0 && html`<${Fact} term="tokens, turns shown">${short(read)} in, ${short(written)} out<//>`}
        ${cost > 0 && html`<${Fact} term="cost, turns shown">${money(cost)}<//>`}
      </dl>
    </section>`;
}

/** @param {{name: string}} props */
function Next({ name }) {
  const waiting = flow.value.rows.filter((message) =>
    message.deliveries.some(
      (delivery) => delivery.recipient === name && (delivery.state === "queued" || delivery.state === "leased"),
    ),
  );
  const due = [...reminders.value.values()]
    .filter((reminder) => reminder.agent === name)
    .sort((a, b) => (a.next_ms ?? 0) - (b.next_ms ?? 0));
  return html`
    <section aria-labelledby="h-next">
      <${Head} id="h-next" title="N3XT" plain="next"
        after=${count(waiting.length, "letter") + (due.length ? ` · ${count(due.length, "reminder")}` : "")} />
      ${
        waiting.length + due.length
          ? html`<ol class="queue">${waiting.slice(0, QUEUE_SHOWN).map(({ id, sender, body }) => html`
            <li key=${id}><span class=${`chip ${sender === "operator" ? "op" : ""}`}>${sender}</span><span>${body}</span></li>`)}
            ${due.slice(0, QUEUE_SHOWN).map(({ id, next_ms, body }) => html`
            <li key=${`r${id}`}><span class="due">${dueWords(next_ms ?? 0, now_ms.value, zone.value)}</span><span>${body}</span></li>`)}</ol>`
          : html`<p class="fine">nothing waits for it.</p>`
      }
    </section>`;
}

/** @param {{agent: Agent, tail: Tail}} props */
export const Facts = ({ agent, tail }) => html`
  <aside class="side" aria-label=${`about ${agent.name}`}>
    <${Now} agent=${agent} />
    <${LastHour} agent=${agent} tail=${tail} />
    <${Next} name=${agent.name} />
    <${Limits} agent=${agent} />
    <${WayOut} agent=${agent} />
    <section class="part" aria-label="part with it"><${Destroy} agent=${agent} /><p
      class="fine">removes the cage; notes, credentials and configuration are kept.</p></section>
  </aside>`;
