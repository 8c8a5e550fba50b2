/** The line below: what this hive is, and how far the stream has come. */
import { html } from "../html.js";
import { parse } from "../live/cursor.js";
import { cursor, hive } from "../live/store.js";
import { count, spaced } from "../words/amounts.js";
import { openKeySheet } from "./keysheet.js";

/** Apart from the rest: it changes with every event. */
const Seq = () => html`<b class="num">${spaced(parse(cursor.value)?.seq ?? 0)}</b>`;

export function Foot() {
  const shown = hive.value;
  return html`
    <footer class="foot">
      ${
        shown &&
        html`
        <span><b>${shown.name}</b> · hyperhive ${shown.version}</span>
        <span>cages <b>${shown.backend}</b></span>
        <span class="daemons">
          ${Object.entries(shown.daemons).map(([name, state]) => html`<span class=${state}>${name} <b>${state}</b></span>`)}
        </span>
        <span>${count(shown.totals.messages_hour, "message")} this hour</span>
        <span>signed in as <b>${shown.operator}</b></span>`
      }
      <span class="end">seq <${Seq} /></span>
      <button type="button" onClick=${openKeySheet}><kbd>?</kbd> keys</button>
    </footer>`;
}
