/** The page `/agent/<name>/`: the live tail, a prompt under it, and the facts beside it. */
import { html, useState } from "../html.js";
import { Facts } from "../agent/facts.js";
import { Gone } from "../agent/gone.js";
import { Header } from "../agent/header.js";
import { TailOf } from "../agent/tail.js";
import { agentNow } from "../live/store.js";
import { Writing } from "../parts/writing.js";
import { chooseModel } from "../act/deeds.js";
import { modelOrdered } from "../words/names.js";

/** @import {Agent} from "../types/wire" */
/** @import {Tail} from "../live/tail.js" */

/** What becomes of a message sent now. @param {Agent} agent */
function fate(agent) {
  if (agent.paused) return "waits in its inbox until it is resumed";
  if (agent.state === "idle") return "wakes it at once";
  if (agent.state === "thinking") return "goes to its inbox, read after this turn";
  if (agent.state === "starting") return "waits in its inbox until it is up";
  if (agent.state === "limited") return "waits in its inbox until the limit ends";
  return "waits in its inbox until it runs again";
}

/** Obeys `/model …`. @param {string} agent */
const orderFor = (agent) => (/** @type {string} */ body) => {
  const ordered = modelOrdered(body);
  return ordered && chooseModel(agent, ordered.model);
};

/** @param {{agent: Agent}} props */
const Prompt = ({ agent }) => html`
  <form class="prompt" aria-label="prompt" onSubmit=${(/** @type {Event} */ event) => event.preventDefault()}>
    <${Writing} place=${`agent ${agent.name}`} id="compose" to=${agent.name} label=${`message to ${agent.name}`}
      hint=${`say something to ${agent.name}`} order=${orderFor(agent.name)}
      before=${html`<span aria-hidden="true">❯</span>`} />
    <p class="hint">
      <span><kbd>enter</kbd> send</span><span><kbd>shift enter</kbd> new line</span><span><kbd>↑</kbd> last prompt</span>
      <span class="end">${fate(agent)}</span>
    </p>
  </form>`;

/** @param {{name: string, tail: Tail, armer: (arm: () => boolean) => void}} props */
export function AgentPage({ name, tail, armer }) {
  const agent = agentNow(name);
  const [facts, setFacts] = useState(false);
  const below = agent ? html`<${Prompt} agent=${agent} />` : html`<${Gone} name=${name} />`;
  return html`
    <main class=${`agent ${facts ? "with-facts" : ""}`} id="main" tabindex="-1">
      <${Header} name=${name} agent=${agent} view="tail" facts=${{ open: facts, toggle: () => setFacts(!facts) }}
        armer=${armer} />
      <${TailOf} agent=${name} tail=${tail} below=${below} />
      ${agent && html`<${Facts} agent=${agent} tail=${tail} />`}
    </main>`;
}
