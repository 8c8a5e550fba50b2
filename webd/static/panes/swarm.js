/** SW4RM: every agent with its state, what it is doing, its last hour, its inbox and what can be done to it. */
import { html, useRef, useState } from "../html.js";
import { agents, names } from "../live/store.js";
import { heldOrder } from "../live/rows.js";
import { Emblem, Generation, Stale } from "../parts/deployed.js";
import { useHeld } from "../parts/held.js";
import { Guarded } from "../parts/guarded.js";
import { Empty, Head } from "../parts/head.js";
import { Menu } from "../parts/menu.js";
import { Icon, Pulse, Sigil } from "../parts/pictures.js";
import { PowerItems } from "../parts/power.js";
import { State, tone } from "../parts/state.js";
import { count } from "../words/amounts.js";
import { HeldBack } from "./held.js";
import { Sizes } from "./sizes.js";
import { Spawn } from "./spawn.js";
import { StaleCages } from "./stale.js";

/** @import {Agent} from "../types/wire" */

/** `3 agents · 1 thinking · 1 crashed`. */
function tally() {
  const all = [...agents.value.values()].map((agent) => agent.value.state);
  const said = ["thinking", "starting", "limited", "parked", "crashed", "failed", "offline"]
    .map((state) => /** @type {[string, number]} */ ([state, all.filter((one) => one === state).length]))
    .filter(([, n]) => n > 0)
    .map(([state, n]) => `${n} ${state === "limited" ? "rate-limited" : state === "parked" ? "needs you" : state}`);
  const paused = [...agents.value.values()].filter((agent) => agent.value.paused).length;
  if (paused) said.push(`${paused} paused`);
  return [count(all.length, "agent"), ...said].join(" · ");
}

function Says() {
  return html`${tally()}`;
}

/** @param {{agent: Agent}} props */
const Role = ({ agent: { role, model, runner, degraded } }) => html`
  <small>
    ${role === "manager" ? role : (model ?? runner)}${degraded.length > 0 && html` · <em title=${degraded.join("\n")}>degraded</em>`}
  </small>`;

/** @param {{name: string}} props */
function Row({ name }) {
  const agent = agents.value.get(name)?.value;
  if (!agent)
    return html`<div role="row" class="is-gone"><div class="who" role="rowheader"><${Sigil} name=${name}
      tone="dim" /><span>${name}<small>destroyed · state is kept</small></span></div></div>`;
  const says = agent.detail || agent.doing;
  const calm = agent.state === "idle" || agent.state === "offline";
  return html`
    <div role="row" class=${`${agent.state === "offline" ? "is-offline" : ""} ${calm ? "is-calm" : ""}`}
      data-agent=${name} data-state=${agent.state} data-paused=${agent.paused ? "true" : undefined}>
      <div class="who" role="rowheader">
        <${Sigil} name=${name} tone=${tone(agent)} />
        <span><span class="named"><a href=${`/agent/${name}/`} data-step>${name}</a><${Emblem} agent=${agent} /></span><${Role}
          agent=${agent} /></span>
      </div>
      <div class="st" role="cell"><${State} agent=${agent} /></div>
      <div class="doing" role="cell" title=${says}>${says || (agent.state === "idle" && html`<i>waiting for mail</i>`)}</div>
      <div class="pulse" role="cell"><${Pulse} pulse=${agent.pulse} /></div>
      <div class="gen num" role="cell"><${Generation} agent=${agent} /><${Stale} agent=${agent} /></div>
      <div class=${`mail num ${agent.inbox ? "hot" : ""}`} role="cell"><span
        class="sr">inbox </span>${agent.inbox || "·"}</div>
      <div class="act" role="cell"><${Menu} label=${`actions for ${name}`}><${PowerItems} agent=${agent} /><//></div>
    </div>`;
}

export function Swarm() {
  const [list, held] = useHeld();
  const shown = useRef(/** @type {string[]} */ ([]));
  const [spawning, setSpawning] = useState(false);
  shown.current = heldOrder(shown.current, names.value, held);
  return html`
    <section id="swarm" aria-labelledby="h-swarm">
      <${Head} id="h-swarm" title="SW4RM" plain="swarm: agents" says=${html`<${Says} />`}>
        <button class="btn quiet" type="button" aria-expanded=${spawning ? "true" : "false"}
          onClick=${() => setSpawning(!spawning)}><${Icon} name="plus" />spawn</button>
      <//>
      ${spawning && html`<${Spawn} done=${() => setSpawning(false)} />`}
      ${shown.current.length === 0 &&
      html`<${Empty} title="no agents yet.">spawn one, or run hivectl up with --agents.<//>`}
      <div class="swarm" role="table" aria-label="agents" ref=${list} hidden=${shown.current.length === 0}>
        <div role="rowgroup" class="top">
          <div class="heads" role="row">
            <span role="columnheader">agent</span><span role="columnheader">state</span><span
              role="columnheader">doing</span><span role="columnheader">last hour</span
            ><span role="columnheader" class="end">gen<span class="sr">eration</span></span><span
              role="columnheader" class="end">inbox</span><span role="columnheader"><span
              class="sr">actions</span></span>
          </div>
        </div>
        <div role="rowgroup"
          class="rows">${shown.current.map((name) => html`<${Guarded} key=${name} what=${name}><${Row} name=${name} /><//>`)}</div>
      </div>
      <${HeldBack} />
      <${StaleCages} />
      <${Sizes} />
    </section>`;
}
