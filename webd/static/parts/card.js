/** A card of Y3R C4LL: what kind of thing waits, of whom, since when. */
import { html } from "../html.js";
import { Sigil } from "./pictures.js";
import { Since } from "./times.js";

/** @import {ComponentChildren} from "../vendor/preact.js" */

/**
 * @typedef {{id: string, colour: string, name: string, tone?: string, kind: string, since_ms: number}} CardProps
 * @param {CardProps & {says: ComponentChildren, data?: Record<string, string>, children?: ComponentChildren}} props
 */
export const Card = ({ id, colour, name, tone: shade, kind, since_ms, says, data = {}, children }) => html`
  <article class=${`card call ${colour}`} aria-labelledby=${id} ...${data}>
    <header>
      <${Sigil} name=${name} tone=${shade} />
      <h3 id=${id} tabindex="-1" data-step><span class="kind">${kind}</span> · ${name}</h3>
      <${Since} ms=${since_ms} as="wait" />
      <p>${says}</p>
    </header>
    ${children}
  </article>`;
