/**
 * What is left of a destroyed agent: its history or its files above, and the form that purges its kept state once its name is typed.
 */
import { html, useState, valueTo } from "../html.js";
import { spawn } from "../act/decisions.js";
import { purge } from "../act/deeds.js";
import { kept } from "../live/store.js";
import { Deed } from "../parts/buttons.js";

/** @param {{name: string}} props */
export function Gone({ name }) {
  const [typed, setTyped] = useState("");
  const submit = (/** @type {Event} */ event) => {
    event.preventDefault();
    if (typed === name) void purge(name);
  };
  if (!kept.value.has(name))
    return html`<div class="prompt gone"><p><b>${name} is gone.</b> nothing of it is kept but what it said.</p></div>`;
  return html`
    <form class="prompt gone" aria-label=${`what is kept of ${name}`} onSubmit=${submit}>
      <p><b>${name} is destroyed.</b> its notes, credentials and configuration are kept until they are purged.</p>
      <div class="row">
        <${Deed} deed=${`spawn ${name}`} doing="coming back…" run=${() => spawn(name)}>bring back<//>
        <label>type its name to purge <input class="field" autocomplete="off" spellcheck=${false} value=${typed}
          onInput=${valueTo(setTyped)} /></label>
        <${Deed} deed=${`purge ${name}`} tone="stop" doing="purging…" disabled=${typed !== name}
          run=${() => purge(name)}>purge<//>
      </div>
    </form>`;
}
