/** What can be done to an agent as buttons and as menu items: start, stop, restart, destroy, cancel the turn. */
import { html } from "../html.js";
import { cancelTurn, pause, wake, wield } from "../act/deeds.js";
import { Armed, Deed } from "./buttons.js";
import { Icon } from "./pictures.js";
import { down } from "./state.js";

/** @import {Agent} from "../types/wire" */

/** @param {{agent: Agent}} props   items for a Menu */
export const PowerItems = ({ agent: { name }, agent }) => html`
  <a class="btn quiet" role="menuitem" href=${`/agent/${name}/`}>open</a>
  <a class="btn quiet" role="menuitem" href=${`/agent/${name}/state`}>files</a>
  <a class="btn quiet" role="menuitem" href=${`/agent/${name}/stats`}>stats</a>
  <a class="btn quiet" role="menuitem" href=${`/agent/${name}/journal`}>journal</a>
  <${Pause} agent=${agent} role="menuitem" tone="quiet" />
  ${agent.state === "limited" &&
  html`<${Deed} role="menuitem" deed=${`wake ${name}`} tone="quiet" doing="waking…" run=${() => wake(name)}>try again now<//>`}
  ${agent.state === "thinking" &&
  html`<${Armed} role="menuitem" deed=${`cancel ${name}`} tone="quiet" doing="cancelling…" run=${() => cancelTurn(name)}>cancel turn<//>`}
  ${
    down(agent)
      ? html`<${Deed} role="menuitem" deed=${`start ${name}`} tone="quiet" doing="starting…"
        run=${() => wield("start", name)}>start<//>`
      : html`
        <${Armed} role="menuitem" deed=${`restart ${name}`} tone="quiet" doing="restarting…"
          run=${() => wield("restart", name)}>restart<//>
        <${Armed} role="menuitem" deed=${`stop ${name}`} tone="quiet" doing="stopping…"
          run=${() => wield("stop", name)}>stop<//>`
  }
  <${Destroy} agent=${agent} role="menuitem" />`;

/** @param {{agent: Agent, role?: string}} props */
export const Destroy = ({ agent: { name }, role }) => html`
  <${Armed} role=${role} deed=${`destroy ${name}`} doing="destroying…" armed="sure? state is kept"
    run=${() => wield("destroy", name)}>destroy<//>`;

/**
 * Pausing and going on. Neither destroys anything: one click.
 * @param {{agent: Agent, role?: string, tone?: string}} props
 */
export const Pause = ({ agent: { name, paused }, role, tone = "" }) =>
  paused
    ? html`<${Deed} role=${role} deed=${`resume ${name}`} tone=${tone || "go"} doing="resuming…"
        run=${() => pause("resume", name)}><${Icon} name="start" />resume<//>`
    : html`<${Deed} role=${role} deed=${`pause ${name}`} tone=${tone} doing="pausing…"
        run=${() => pause("pause", name)}><${Icon} name="pause" />pause<//>`;

/** The one or two buttons that matter now. @param {{agent: Agent, armer?: (arm: () => boolean) => void}} props */
export function PowerButtons({ agent: { name }, agent, armer }) {
  if (down(agent)) {
    return html`<${Deed} deed=${`start ${name}`} tone="go" doing="starting…" run=${() => wield("start", name)}><${Icon}
      name="start" />start<//>`;
  }
  return html`
    ${
      agent.state === "thinking" &&
      html`<${Armed} deed=${`cancel ${name}`} doing="cancelling…" armer=${armer} run=${() => cancelTurn(name)}><${Icon}
        name="stop" />cancel turn <kbd>esc</kbd><//>`
    }
    <${Pause} agent=${agent} tone=${agent.paused ? "" : "wide-only"} />
    <${Armed} deed=${`restart ${name}`} tone="wide-only" doing="restarting…"
      run=${() => wield("restart", name)}><${Icon} name="restart" />restart<//>
    <${Armed} deed=${`stop ${name}`} tone="wide-only" doing="stopping…" run=${() => wield("stop", name)}>stop<//>`;
}
