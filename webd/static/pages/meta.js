/** The page `/meta`: what is deployed where and since when, and how it came to that. Read only. */
import { html, useMemo } from "../html.js";
import { metaRepository } from "../live/repository.js";
import { Empty, Head } from "../parts/head.js";
import { Log, Open } from "../parts/record.js";
import { Since } from "../parts/times.js";
import { count } from "../words/amounts.js";
import { generationAt, sha } from "../words/record.js";
import { RecordBar, useAddress } from "./config.js";

/** @import {Live} from "../types/configuration" */

/** @param {{live: readonly Live[]}} props */
const Where = ({ live }) =>
  live.length
    ? html`
      <table class="entries where">
        <thead class="sr"><tr><th scope="col">agent</th><th scope="col">generation</th><th scope="col">commit</th><th
          scope="col">since</th></tr></thead>
        <tbody>
          ${live.map(
            ({ agent, generation, commit, at_ms }) => html`
            <tr key=${agent} data-live=${agent}>
              <th scope="row"><div><a href=${generationAt(agent, generation)} data-step>${agent}</a></div></th>
              <td class="num">generation ${generation}</td>
              <td class="when"><code>${sha(commit)}</code></td>
              <td class="when"><${Since} ms=${at_ms} after=" ago" /></td>
            </tr>`,
          )}
        </tbody>
      </table>`
    : html`<${Empty} title="nothing is deployed yet.">an agent stands here once its configuration is live.<//>`;

export function MetaPage() {
  const repository = useMemo(metaRepository, []);
  const go = useAddress(repository, () => true);
  const record = repository.record.value;
  const opened = repository.opened.value;
  return html`
    <main class="agent alone" id="main" tabindex="-1">
      <header class="id">
        <div class="name">
          <h1>what is deployed</h1>
          <p>one commit of the meta repository for each deployment</p>
        </div>
      </header>
      <div class="files">
        <${RecordBar} repository=${repository} says=${record ? `${count(record.live.length, "agent")} live` : "looking…"} />
        <div class=${`panels ${opened ? "is-open" : ""}`}>
          <section class="listing record" aria-label="what is live, and the log" tabindex="0">
            ${
              record &&
              html`
              <${Head} id="h-live" title="L1V3" plain="live" />
              <${Where} live=${record.live} />
              <${Head} id="h-log" title="L0G" plain="log, newest first" />
              <${Log} log=${record.log} opened=${opened} more=${repository.more.value} go=${go}
                further=${() => repository.further()} />`
            }
          </section>
          ${opened && html`<${Open} repository=${repository} opened=${opened} go=${go} />`}
        </div>
      </div>
    </main>`;
}
