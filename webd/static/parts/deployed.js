/** What is deployed of an agent, as it shows: its own sign, its generation, and whether its cage is what was before. */
import { html } from "../html.js";
import { generationAt } from "../words/record.js";

/** @import {Agent} from "../types/wire" */

/** The sign that its settings give an agent: text, bounded, and apart from what stands beside it. @param {{agent: Agent}} props */
export const Emblem = ({ agent: { icon } }) => (icon ? html`<bdi class="emblem" aria-hidden="true">${icon}</bdi>` : null);

/** Its number, which leads to its record. @param {{agent: Agent}} props */
export const Generation = ({ agent: { name, generation } }) =>
  generation === null
    ? html`<span><span aria-hidden="true">–</span><span class="sr">no generation yet</span></span>`
    : html`<a href=${generationAt(name, generation)}><span class="sr">generation </span>${generation}</a>`;

/** @param {{agent: Agent}} props */
export const Stale = ({ agent: { stale } }) =>
  stale ? html`<span class="tag" title=${stale}>stale<span class="sr">: ${stale}</span></span>` : null;
