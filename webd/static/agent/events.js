/**
 * A turn's events as rows: what woke it, what was said and thought, which tools were called and what they gave back.
 */
import { html, useState } from "../html.js";
import { absolute, duration, timeOfDay } from "../words/times.js";
import { toolName } from "../words/names.js";
import { Prose } from "../parts/prose.js";

/** @import {Signal} from "../vendor/signals-core.js" */
/** @import {ComponentChildren} from "../vendor/preact.js" */
/** @import {TurnRows} from "../live/tail.js" */
/** @import {Spoken, ToolCalled, ToolReturned, TurnEvent} from "../types/wire" */
/** @import {Zone} from "../words/times.js" */

/** @param {{event: TurnEvent, zone: Zone, kind: string, glyph: string, children?: ComponentChildren}} props */
const Line = ({ event, zone, kind, glyph, children }) => html`
  <li class=${`ev ${kind}`} data-n=${event.n}>
    <time datetime=${new Date(event.at_ms).toISOString()}
      title=${absolute(event.at_ms, zone)}>${timeOfDay(event.at_ms, zone)}</time>
    <i aria-hidden="true">${glyph}</i>
    <div class="body">${children}</div>
  </li>`;

/** @type {Record<Spoken["kind"], [string, string, string]>} */
const SPOKEN = {
  said: ["say", "▪", ""],
  thought: ["muse", "∴", "thought: "],
  noted: ["note", "◆", ""],
  failed: ["bad", "✕", "failed: "],
};

/** How a call went. @param {{called: ToolCalled, returned: ToolReturned | null, running: boolean}} props */
function Went({ called, returned, running }) {
  if (!returned) return running ? html`<small class="on">· running</small>` : html`<small>· no answer</small>`;
  const took_ms = returned.duration_ms ?? returned.at_ms - called.at_ms;
  return html`<small>· ${duration(took_ms)} · <span
    class=${returned.ok ? "" : "no"}>${returned.ok ? "ok" : "failed"}</span></small>`;
}

/** @param {{kind: string, label: string, text: string}} props */
const Block = ({ kind, label, text }) => html`<pre class=${kind} tabindex="0" aria-label=${label}>${text}</pre>`;

/**
 * @param {{event: ToolCalled, zone: Zone, returned: Signal<ToolReturned | null> | undefined, running: boolean}} props
 */
function Tool({ event, zone, returned, running }) {
  const [open, setOpen] = useState(false);
  const back = returned?.value ?? null;
  return html`
    <${Line} event=${event} zone=${zone} kind=${back && !back.ok ? "tool wrong" : "tool"} glyph="▶">
      <details open=${open}
        onToggle=${(/** @type {Event} */ toggled) => setOpen(/** @type {HTMLDetailsElement} */ (toggled.target).open)}>
        <summary><b>${toolName(event.tool)}</b><span>${event.summary}</span><${Went} called=${event} returned=${back}
          running=${running} /></summary>
        ${open && event.input && html`<${Block} kind="out in" label="what it was given" text=${event.input} />`}
        ${open && html`<${Block} kind="out" label="what it gave back" text=${back ? back.text || "nothing" : "nothing yet"} />`}
      </details>
    <//>`;
}

/** @param {{event: TurnEvent, zone: Zone, rows: TurnRows, running: boolean, last: boolean}} props */
export function Event({ event, zone, rows, running, last }) {
  switch (event.kind) {
    case "woken":
      return html`<${Line} event=${event} zone=${zone} kind="in" glyph="◂"><b>${event.sender}</b>${"  "}<${Prose}
        text=${event.text} /><//>`;
    case "tool_called":
      return html`<${Tool} event=${event} zone=${zone} returned=${rows.returned.get(event.call)} running=${running} />`;
    case "tool_returned":
      return html`<${Line} event=${event} zone=${zone} kind=${event.ok ? "note" : "bad"} glyph="◂"><span
        class="sr">a tool gave back: </span>${event.text}<//>`;
    default: {
      const [kind, glyph, spoken] = SPOKEN[event.kind] ?? SPOKEN.noted;
      return html`<${Line} event=${event} zone=${zone} kind=${kind} glyph=${glyph}><span
        class=${running && last && event.kind === "said" ? "caret" : ""}><span class="sr">${spoken}</span><${Prose}
        text=${event.text} /></span><//>`;
    }
  }
}
