/** DR4FTS: agents that are being configured and were never spawned. Not shown while there is none. */
import { html } from "../html.js";
import { wield } from "../act/deeds.js";
import { drafts, proposed } from "../live/store.js";
import { Armed } from "../parts/buttons.js";
import { Guarded } from "../parts/guarded.js";
import { Head } from "../parts/head.js";
import { Sigil } from "../parts/pictures.js";
import { Since } from "../parts/times.js";

/** @import {Kept} from "../types/wire" */

/** @param {{row: Kept}} props */
function Row({ row: { name, since_ms, model, runner } }) {
  const waits = proposed.value.find((proposal) => proposal.agent === name);
  return html`
    <li data-draft=${name}>
      <${Sigil} name=${name} tone="dim" />
      <span class="who">${name}<small>${model ?? runner}</small></span>
      <span class="much">${waits ? html`<a href="/#calls">proposal ${waits.number} waits for you</a>` : "the manager edits its settings, then proposes it"}<small><${Since}
        ms=${since_ms} before="made " after=" ago" /></small></span>
      <span class="acts"><a class="btn quiet" href=${`/agent/${name}/config`}>configuration<span class="sr"> of ${name}</span></a>
        <${Armed} deed=${`destroy ${name}`} doing="giving up…" armed="sure? its files are kept"
          run=${() => wield("destroy", name)}>give up<span class="sr"> ${name}</span><//></span>
    </li>`;
}

export function Drafts() {
  const rows = [...drafts.value.values()].sort((a, b) => b.since_ms - a.since_ms || a.name.localeCompare(b.name));
  if (!rows.length) return null;
  return html`
    <section id="drafts" aria-labelledby="h-drafts">
      <${Head} id="h-drafts" title="DR4FTS" plain="drafts" says="configured, not yet spawned" />
      <ul class="kept">
        ${rows.map((row) => html`<${Guarded} key=${row.name} what=${row.name}><${Row} row=${row} /><//>`)}
      </ul>
    </section>`;
}
