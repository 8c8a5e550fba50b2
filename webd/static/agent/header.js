/** The head of an agent's pages: who it is, its views, its state and what can be done to it. */
import { html } from "../html.js";
import { drafts, kept, proposals } from "../live/store.js";
import { Emblem, Generation } from "../parts/deployed.js";
import { Menu } from "../parts/menu.js";
import { Sigil } from "../parts/pictures.js";
import { PowerButtons, PowerItems } from "../parts/power.js";
import { State, tone } from "../parts/state.js";
import { Since } from "../parts/times.js";

/** @import {Agent} from "../types/wire" */

/** @typedef {"tail" | "files" | "stats" | "journal" | "config"} View */

/** @param {{name: string, view: View, facts?: {open: boolean, toggle: () => void}}} props */
const Views = ({ name, view, facts }) => html`
  <nav class="subs" aria-label="agent views">
    <a href=${`/agent/${name}/`} aria-current=${view === "tail" ? "page" : undefined}>T4IL<span
      class="sr"> tail</span></a>
    <a href=${`/agent/${name}/state`} aria-current=${view === "files" ? "page" : undefined}>F1L3S<span
      class="sr"> files</span></a>
    <a href=${`/agent/${name}/stats`} aria-current=${view === "stats" ? "page" : undefined}>ST4TS<span
      class="sr"> stats</span></a>
    <a href=${`/agent/${name}/journal`} aria-current=${view === "journal" ? "page" : undefined}>J0URN4L<span
      class="sr"> journal</span></a>
    <a href=${`/agent/${name}/config`} aria-current=${view === "config" ? "page" : undefined}>C0NF1G<span
      class="sr"> configuration</span></a>
    ${facts &&
    html`<button type="button" aria-expanded=${facts.open ? "true" : "false"} onClick=${facts.toggle}>
      F4CTS<span class="sr"> facts</span>
    </button>`}
  </nav>`;

/** What there is of an agent that has no cage. @param {string} name */
function without(name) {
  if (kept.value.has(name)) return "destroyed · its state is kept";
  if (drafts.value.has(name)) return "a draft · no cage yet";
  const waits = [...proposals.value.values()].some(({ agent, state }) => agent === name && state === "open");
  return waits ? "proposed · not there yet" : "gone";
}

/**
 * @param {object} props
 * @param {string} props.name
 * @param {Agent | null} props.agent      null: destroyed
 * @param {View} props.view
 * @param {{open: boolean, toggle: () => void}} [props.facts]
 * @param {(arm: () => boolean) => void} [props.armer]
 */
export const Header = ({ name, agent, view, facts, armer }) => html`
  <header class="id">
    <${Sigil} name=${name} tone=${agent ? tone(agent) : "dim"} large />
    <div class="name">
      <div class="named"><h1>${name}</h1>${agent && html`<${Emblem} agent=${agent} /><small title=${agent.pronouns}>${agent.pronouns}</small>`}</div>
      <p>${
        agent
          ? html`${agent.role} · <span class="gen"><${Generation} agent=${agent} /></span> · ${agent.model ?? `${agent.runner} runner`}${agent.up_since_ms !== null &&
            html` · up <${Since} ms=${agent.up_since_ms} />`}`
          : without(name)
      }</p>
    </div>
    <${Views} name=${name} view=${view} facts=${facts} />
    ${
      agent &&
      html`<div class="acts">
      <${State} agent=${agent} big />
      <${PowerButtons} agent=${agent} armer=${armer} />
      <${Menu} label=${`more actions for ${name}`}><${PowerItems} agent=${agent} /><//>
    </div>`
    }
    ${
      (agent?.detail || agent?.stale) &&
      html`<div class="notes">
      ${agent.detail && html`<p class=${`detail ${agent.state}`}>${agent.detail}</p>`}
      ${agent.stale && html`<p class="was"><span class="tag">stale</span> its cage still runs what was before: ${agent.stale}</p>`}
    </div>`
    }
  </header>`;
