/** Below the swarm: what agents were refused in the last hour, and how much model accounts have left. */
import { html } from "../html.js";
import { now_ms, zone } from "../live/clock.js";
import { accounts, agents, limits, refusals } from "../live/store.js";
import { Since } from "../parts/times.js";
import { count } from "../words/amounts.js";
import { destination, hitWords, windowWords } from "../words/limits.js";

/** @import {Account, EgressRefusal, LimitHit} from "../types/wire" */

const RECENT_MS = 3_600_000;
const PLACES_SHOWN = 2;

/** @param {number} at_ms */
const recent = (at_ms) => now_ms.value - at_ms < RECENT_MS;

/** @param {{name: string, rows: EgressRefusal[]}} props */
function Turned({ name, rows }) {
  const places = [...new Set(rows.map(destination))];
  const last = Math.max(...rows.map((row) => row.at_ms));
  const times = rows.reduce((sum, row) => sum + row.times, 0);
  const rest = places.length - PLACES_SHOWN;
  return html`
    <li><a href=${`/agent/${name}/`}>${name}</a> was turned away ${times === 1 ? "" : `${count(times, "time")} `}on its way to
      ${" "}<b>${places.slice(0, PLACES_SHOWN).join(", ")}</b>${rest > 0 && ` and ${count(rest, "other place")}`},
      ${" "}<${Since} ms=${last} after=" ago" /></li>`;
}

/** @param {{hit: LimitHit}} props */
const Met = ({ hit }) => html`
  <li class="bad"><a href=${`/agent/${hit.agent}/`}>${hit.agent}</a> <b>${hitWords(hit)}</b>${hit.times > 1 &&
  `, ${count(hit.times, "time")} by now`}, <${Since} ms=${hit.at_ms} after=" ago" /></li>`;

/** @param {{account: Account}} props */
const Left = ({ account }) => html`
  <li class="calm">account <b>${account.name}</b> ${account.windows
    .map((window) => windowWords(window, now_ms.value, zone.value))
    .join(" · ")}</li>`;

export function HeldBack() {
  const known = agents.value;
  const hits = [...limits.value.values()].filter((hit) => recent(hit.at_ms) && known.has(hit.agent));
  /** @type {Map<string, EgressRefusal[]>} */
  const turned = new Map();
  for (const row of refusals.value.values()) {
    if (recent(row.at_ms) && known.has(row.agent)) turned.set(row.agent, [...(turned.get(row.agent) ?? []), row]);
  }
  const paid = [...accounts.value.values()].filter((account) => account.windows.length && account.limited_until_ms === null);
  if (!hits.length && !turned.size && !paid.length) return null;
  return html`
    <ul class="heldback" aria-label="what held agents back in the last hour">
      ${hits.map((hit) => html`<${Met} key=${`${hit.agent} ${hit.resource}`} hit=${hit} />`)}
      ${[...turned].map(([name, rows]) => html`<${Turned} key=${name} name=${name} rows=${rows} />`)}
      ${paid.map((account) => html`<${Left} key=${account.name} account=${account} />`)}
    </ul>`;
}
