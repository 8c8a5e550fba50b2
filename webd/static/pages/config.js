/** The page `/agent/<name>/config`: everything that was proposed, decided and deployed of an agent's configuration. Read only. */
import { html, useDerived, useEffect, useMemo } from "../html.js";
import { Header } from "../agent/header.js";
import { repositoryOf } from "../live/repository.js";
import { agentNow, deployments, proposals } from "../live/store.js";
import { Icon } from "../parts/pictures.js";
import { Head } from "../parts/head.js";
import { Log, Open, Tags } from "../parts/record.js";
import { count } from "../words/amounts.js";
import { placeOf, sha } from "../words/record.js";

/** @import {Repository} from "../live/repository.js" */

/**
 * What the address says is open, kept so while it changes; and looked at again when something is decided or deployed.
 * @param {Repository<any>} repository
 * @param {(agent: string) => boolean} concerns   whose proposals and deployments change it
 */
export function useAddress(repository, concerns) {
  const follow = () => repository.show(placeOf(location.search));
  const standing = useDerived(
    () =>
      [...proposals.value.values(), ...deployments.value.values()]
        .filter(({ agent }) => concerns(agent))
        .map(({ agent, number, state }) => `${agent}/${number} ${state}`)
        .join(),
    [repository],
  ).value;
  useEffect(() => {
    addEventListener("popstate", follow);
    return () => removeEventListener("popstate", follow);
  }, [repository]);
  useEffect(() => void repository.load(placeOf(location.search)), [repository, standing]);
  return (/** @type {string} */ href) => {
    history.pushState(null, "", href);
    follow();
  };
}

/** @param {{repository: Repository<any>, says: string}} props */
export const RecordBar = ({ repository, says }) => html`
  <div class="bar">
    <p>${says}</p>
    ${repository.fault.value && html`<p class="problem" role="status">${repository.fault.value}</p>`}
    <button class="btn quiet icon end" type="button" aria-label="look again" title="look again"
      onClick=${() => repository.load(placeOf(location.search))}><${Icon} name="restart" /></button>
  </div>`;

/** @param {{name: string}} props */
export function ConfigPage({ name }) {
  const repository = useMemo(() => repositoryOf(name), [name]);
  const go = useAddress(repository, (agent) => agent === name);
  const record = repository.record.value;
  const tags = repository.tags.value;
  const opened = repository.opened.value;
  const live = record?.main ? `live: ${sha(record.main)}` : "nothing is live";
  return html`
    <main class="agent alone" id="main" tabindex="-1">
      <${Header} name=${name} agent=${agentNow(name)} view="config" />
      <div class="files">
        <${RecordBar} repository=${repository} says=${record ? `${live}, ${count(tags.length, "number")}` : "looking…"} />
        <div class=${`panels ${opened ? "is-open" : ""}`}>
          <section class="listing record" aria-label="record" tabindex="0">
            ${
              record &&
              html`
              <${Head} id="h-record" title="R3C0RD" plain="record" />
              <${Tags} tags=${tags} opened=${opened} more=${repository.older.value.more} go=${go}
                earlier=${() => repository.earlier()} />
              <${Head} id="h-log" title="L1V3" plain="commits that were live, newest first" />
              <${Log} log=${record.log} opened=${opened} more=${repository.more.value} go=${go}
                further=${() => repository.further()} />`
            }
          </section>
          ${opened && html`<${Open} repository=${repository} opened=${opened} go=${go} />`}
        </div>
      </div>
    </main>`;
}
