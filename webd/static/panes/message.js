/** One message in the flow: who to whom, what, and how far it has come for each recipient. */
import { html, useState } from "../html.js";
import { openThread } from "../act/place.js";
import { replyTo } from "./compose.js";
import { agents } from "../live/store.js";
import { open, overall, progress } from "../words/delivery.js";
import { eventMark } from "../words/events.js";
import { Icon } from "../parts/pictures.js";
import { Folding } from "../parts/prose.js";
import { At, Since } from "../parts/times.js";

/** @import {Delivery, Message} from "../types/wire" */

/** @param {{name: string}} props */
export function Who({ name }) {
  if (name === "operator") return html`<span class="chip op">operator</span>`;
  if (name === "*") return html`<span class="chip sys">everyone</span>`;
  if (!agents.value.has(name)) return html`<span class="chip sys">${name}</span>`;
  return html`<a class="chip" href=${`/agent/${name}/`}>${name}</a>`;
}

/** @param {{message: Message}} props */
const Route = ({ message }) => html`
  <span class="route"><${Who} name=${message.sender} />${" "}<span class="to"><span aria-hidden="true">→</span><span
    class="sr">to</span></span>${" "}<${Who} name=${message.to} /></span>`;

/** @param {{delivery: Delivery, named: boolean}} props */
function Step({ delivery, named }) {
  const { glyph, word, tone } = progress(delivery);
  return html`
    <li class=${`mark ${tone}`}>
      ${named && html`<${Who} name=${delivery.recipient} />${" "}`}<span
        aria-hidden="true">${glyph}</span> ${word}${delivery.attempts > 1 && ` · try ${delivery.attempts}`}
      ${" "}<small><${Since} ms=${delivery.changed_ms} after=" ago" /></small>
    </li>`;
}

/** @param {{deliveries: Delivery[]}} props */
const Steps = ({ deliveries }) => html`
  <ul class="steps">
    ${deliveries.map((delivery) => html`<${Step} key=${delivery.id} delivery=${delivery} named=${deliveries.length > 1} />`)}
  </ul>`;

/** @param {{message: Message, expanded: boolean, toggle: () => void}} props */
function Mark({ message, expanded, toggle }) {
  const { glyph, word, tone } = overall(message);
  return html`
    <button class=${`mark ${tone}`} type="button" aria-expanded=${expanded ? "true" : "false"}
      title="delivery, by recipient" data-delivery=${word} onClick=${toggle}>
      <span aria-hidden="true">${glyph}</span>${" "}${word}
    </button>`;
}

/** What the hive tells by it, before its words. @param {{message: Message}} props */
function Event({ message }) {
  const mark = eventMark(message.event);
  if (!mark) return null;
  const about = message.about === null ? "" : ` ${message.about}`;
  return html`<span class=${`event mark ${mark.tone}`} data-event=${message.event}><span
    aria-hidden="true">${mark.glyph}</span> ${mark.word}${about}</span>${" "}`;
}

/**
 * @param {{message: Message, words: readonly string[], whole?: boolean}} props   `whole`: in a thread, with every delivery
 */
export function Row({ message, words, whole = false }) {
  const [expanded, setExpanded] = useState(false);
  const reply = message.in_reply_to !== null;
  const follow = (/** @type {MouseEvent} */ event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
    event.preventDefault();
    openThread(message.thread);
  };
  return html`
    <li class=${`msg ${reply ? "reply" : ""} ${open(message) ? "moving" : ""}`} id=${`m-${message.id}`}
      data-message=${message.id}>
      <a class="when" href=${`/?thread=${message.thread}#matrix`} data-step onClick=${follow}><${At}
        ms=${message.sent_ms} /><span class="sr"> message ${message.id}: open its thread</span></a>
      <${Route} message=${message} />
      <div class="said"><${Event} message=${message} /><${Folding} text=${message.body} words=${words} />
        ${(expanded || whole) && html`<${Steps} deliveries=${message.deliveries} />`}
      </div>
      <span class="end">
        <button class="btn icon quiet reply-to" type="button" aria-label=${`reply to message ${message.id}`}
          onClick=${() => replyTo(message)}><${Icon} name="reply" /></button>
        <${Mark} message=${message} expanded=${expanded || whole} toggle=${() => setExpanded(!expanded)} />
      </span>
    </li>`;
}
