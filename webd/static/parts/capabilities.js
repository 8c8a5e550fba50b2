/** What a configuration changes in what an agent may or has; what deserves a look says so, and privd puts it first. */
import { html, useState } from "../html.js";
import { changeWords } from "../words/decisions.js";

/** @import {CapabilityChange} from "../types/wire" */

const SHOWN_MAX = 8;

/** @param {{change: CapabilityChange}} props */
const Change = ({ change }) => html`
  <li class=${change.notable ? "notable" : ""}><span class="sr">${change.notable ? "worth a look: " : ""}</span><b>${change.subject}</b>
    ${" "}<span>${changeWords(change)}</span></li>`;

/** @param {{changes: CapabilityChange[]}} props */
export function Capabilities({ changes }) {
  const [all, setAll] = useState(false);
  if (!changes.length) return html`<p class="why">it changes nothing in what the agent may or has.</p>`;
  const shown = all ? changes : changes.slice(0, SHOWN_MAX);
  return html`
    <ul class="capabilities" aria-label="what it changes in what the agent may or has">
      ${shown.map((change, i) => html`<${Change} key=${i} change=${change} />`)}
    </ul>
    ${
      changes.length > SHOWN_MAX &&
      html`<button class="btn quiet unfold" type="button" aria-expanded=${all ? "true" : "false"}
        onClick=${() => setAll(!all)}>${all ? "fewer" : `all ${changes.length} changes`}</button>`
    }`;
}
