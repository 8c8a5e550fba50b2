/** Writing into the flow: to one agent or to all, as a reply or not. */
import { html, signal, valueTo } from "../html.js";
import { draft } from "../act/drafts.js";
import { manager, names } from "../live/store.js";
import { Icon } from "../parts/pictures.js";
import { Writing } from "../parts/writing.js";

/** @import {Message} from "../types/wire" */

/** What the next message answers. @type {import("../vendor/signals-core.js").Signal<Message | null>} */
const answering = signal(null);

/** @param {Message} message */
export function replyTo(message) {
  answering.value = message;
  draft("to").type(message.sender === "operator" ? message.to : message.sender);
  focusCompose();
}

export function focusCompose() {
  document.getElementById("compose")?.focus();
}

export function Compose() {
  const chosen = draft("to");
  const known = names.value.includes(chosen.text.value) || chosen.text.value === "*";
  const to = known ? chosen.text.value : manager.value || names.value[0] || "";
  const answered = answering.value;
  return html`
    <form class="compose" aria-label="write a message"
      onSubmit=${(/** @type {Event} */ event) => event.preventDefault()}>
      ${
        answered &&
        html`
        <p class="answering">
          <${Icon} name="reply" /><span>to #${answered.id} from <b>${answered.sender}</b>: ${answered.body}</span>
          <button class="btn icon quiet" type="button" aria-label="not as a reply"
            onClick=${() => (answering.value = null)}><${Icon} name="x" /></button>
        </p>`
      }
      <${Writing} place="flow" id="compose" to=${to} in_reply_to=${answered?.id}
        label=${to === "*" ? "message to everyone" : `message to ${to}`} hint="say something"
        onSent=${() => (answering.value = null)}
        before=${html`
          <label class="to"><span>to</span>
            <select aria-label="recipient" value=${to} onChange=${valueTo(chosen.type)}>
              ${names.value.map((name) => html`<option key=${name} value=${name}>${name}</option>`)}
              <option value="*">everyone</option>
            </select>
          </label>`} />
    </form>`;
}
