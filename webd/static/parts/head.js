/** Section heads: a leet title with its plain twin, what the section holds, and its tools. */
import { html } from "../html.js";

/** @import {ComponentChildren} from "../vendor/preact.js" */

/**
 * @typedef {{says?: ComponentChildren, after?: ComponentChildren, children?: ComponentChildren}} Around
 * @param {{id: string, title: string, plain: string, tone?: string} & Around} props
 */
export const Head = ({ id, title, plain, tone = "", says, after, children }) => html`
  <div class=${`head ${tone}`}>
    <h2 id=${id}><span aria-hidden="true">${title}</span><span class="sr">${plain}</span></h2>
    ${says && html`<p>${says}</p>`}
    <hr />
    ${after && html`<p>${after}</p>`}
    ${children}
  </div>`;

/** Nothing here: what it is and what fills it. @param {{title: string, children?: ComponentChildren}} props */
export const Empty = ({ title, children }) => html`<div class="card empty"><b>${title}</b>${children}</div>`;
