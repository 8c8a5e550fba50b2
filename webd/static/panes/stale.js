/** Below the swarm: whose cages still run what was before, and why. */
import { html } from "../html.js";
import { agents } from "../live/store.js";
import { count } from "../words/amounts.js";
import { fewNames, staleTogether } from "../words/stale.js";

/** @param {{names: readonly string[], why: string}} props */
function Together({ names, why }) {
  const { named, others } = fewNames(names);
  return html`
    <li class="was">${named.map((name, i) => html`${i > 0 && ", "}<a key=${name} href=${`/agent/${name}/`}>${name}</a>`)}
      ${others > 0 && ` and ${count(others, "other")}`} still ${names.length === 1 ? "runs" : "run"} what was before: <b>${why}</b></li>`;
}

export function StaleCages() {
  const found = staleTogether([...agents.value.values()].map((agent) => agent.value));
  if (!found.size) return null;
  return html`
    <ul class="heldback" aria-label="cages that still run what was before">
      ${[...found].map(([why, names]) => html`<${Together} key=${why} names=${names} why=${why} />`)}
    </ul>`;
}
