/** A repository of configurations to look through: tags and commits on the left, what is open of them on the right. */
import { html } from "../html.js";
import { within } from "../act/within.js";
import { Icon } from "../parts/pictures.js";
import { count, size } from "../words/amounts.js";
import { differenceWords } from "../words/differences.js";
import { aboutOf, addressOf, bytesOf, comparable, factsOf, NOTHING, sha, whenOf } from "../words/record.js";
import { Difference } from "./difference.js";
import { Empty } from "./head.js";
import { At, Since } from "./times.js";

/** @import {ConfigFile, LogEntry} from "../types/configuration" */
/** @import {Opened, Repository} from "../live/repository.js" */
/** @import {Place, Tagged} from "../words/record.js" */

/** @typedef {(href: string) => void} Go */

/** @param {Place} place */
const href = (place) => addressOf(place) || location.pathname;

/** @param {{tag: Tagged, current: boolean, go: Go}} props */
function TagRow({ tag, current, go }) {
  const when = whenOf(tag);
  return html`
    <li data-tag=${tag.name}>
      <a href=${href({ tag: tag.name })} data-step aria-current=${current ? "true" : undefined} onClick=${within(go)}>
        <span class=${`tag ${tag.tone}`}>${tag.name}</span> <span class="about">${aboutOf(tag)}</span>
      </a>
      <code class="sha">${sha(tag.commit)}</code>
      ${when !== null && html`<${Since} ms=${when} after=" ago" />`}
    </li>`;
}

/** @param {{tags: readonly Tagged[], opened: Opened | null, more: boolean, earlier: () => void, go: Go}} props */
export const Tags = ({ tags, opened, more, earlier, go }) =>
  tags.length
    ? html`<ol class="tags">${tags.map((tag) => html`<${TagRow} key=${tag.number} tag=${tag} go=${go}
        current=${opened?.tag?.number === tag.number} />`)}</ol>
      ${more && html`<button class="btn quiet" type="button" onClick=${earlier}>show older numbers</button>`}`
    : html`<${Empty} title="nothing is recorded yet.">proposals, and what became of them, land here.<//>`;

/** @param {{entry: LogEntry, current: boolean, go: Go}} props */
const Commit = ({ entry: { commit, at_ms, subject, tags }, current, go }) => html`
  <li data-commit=${commit}>
    <a href=${href({ commit })} data-step aria-current=${current ? "true" : undefined} onClick=${within(go)}>
      <span class="about">${subject}</span>
      ${tags.map((name) => html`<span class=${`tag ${name.startsWith("deployed/") ? "ok" : ""}`}>${name}</span>`)}
    </a>
    <code class="sha">${sha(commit)}</code>
    <${Since} ms=${at_ms} after=" ago" />
  </li>`;

/** @param {{log: readonly LogEntry[], opened: Opened | null, more: boolean, further: () => void, go: Go}} props */
export const Log = ({ log, opened, more, further, go }) => html`
  ${
    log.length
      ? html`<ol class="tags">${log.map((entry) => html`<${Commit} key=${entry.commit} entry=${entry} go=${go}
          current=${opened !== null && !opened.tag && opened.commit === entry.commit} />`)}</ol>`
      : html`<p class="fine">nothing was deployed yet.</p>`
  }
  ${more && html`<button class="btn quiet" type="button" onClick=${further}>show more</button>`}`;

/** @param {{tag: Tagged}} props */
function Facts({ tag }) {
  return html`
    <dl class="facts said">
      ${factsOf(tag).map(
        ({ term, text, ms }) => html`<div><dt>${term}</dt><dd>${ms === undefined ? text : html`<${At} ms=${ms} />`}</dd></div>`,
      )}
    </dl>
    <details class="document"><summary>the whole document</summary>
      <pre tabindex="0" role="region" aria-label="the tag's document">${JSON.stringify(tag.document, null, 2)}</pre></details>`;
}

/** @param {{opened: Opened, options: {commit: string, label: string}[], go: Go}} props */
function Against({ opened: { place, commit, before }, options, go }) {
  const chosen = before ?? NOTHING;
  const known = options.some((option) => option.commit === chosen) || chosen === NOTHING;
  const take = (/** @type {Event} */ event) =>
    go(href({ ...place, before: /** @type {HTMLSelectElement} */ (event.currentTarget).value }));
  return html`
    <label class="against">compared with
      <select class="field" value=${chosen} onChange=${take}>
        <option value=${NOTHING}>nothing: all that it holds</option>
        ${!known && html`<option value=${chosen}>${sha(chosen)}</option>`}
        ${options.map((option) => option.commit !== commit && html`<option value=${option.commit}>${option.label}</option>`)}
      </select>
    </label>`;
}

/** @param {{files: readonly ConfigFile[], opened: Opened, go: Go}} props */
const Held = ({ files, opened: { place, commit }, go }) => html`
  <ul class="held-files">
    ${files.map(
      ({ path, bytes }) => html`<li key=${path}><a href=${href({ ...(place.tag && { tag: place.tag }), commit, file: path })}
        onClick=${within(go)}>${path}</a> <small>${size(bytes)}</small></li>`,
    )}
  </ul>`;

/** @param {{opened: Opened, options: {commit: string, label: string}[], go: Go}} props */
function Body({ opened, options, go }) {
  const { fault, diff, files, text, place } = opened;
  if (fault) return html`<p class="problem" role="status">${fault}</p>`;
  if (place.file !== undefined)
    return text
      ? html`<pre class="content" tabindex="0" role="region" aria-label="content of the file">${text.text}</pre>`
      : html`<p class="fine loading">reading…</p>`;
  return html`
    <div class="content flowing" tabindex="0" role="region" aria-label="what it is and what it changes">
      ${opened.tag && html`<${Facts} tag=${opened.tag} />`}
      ${
        diff && files
          ? html`
        <h3>files <small>${count(files.length, "file")}, ${size(bytesOf(files))}</small></h3>
        <${Held} files=${files} opened=${opened} go=${go} />
        <h3>changes <small>${differenceWords(diff)}</small></h3>
        <${Against} opened=${opened} options=${options} go=${go} />
        <${Difference} files=${diff} />`
          : html`<p class="fine loading">comparing…</p>`
      }
    </div>`;
}

/** @param {{repository: Repository<any>, opened: Opened, go: Go}} props */
export function Open({ repository, opened, go }) {
  const { place, tag, commit, text } = opened;
  const subject = repository.record.value?.log.find((/** @type {LogEntry} */ entry) => entry.commit === commit)?.subject;
  const options = comparable(repository.record.value?.log ?? [], repository.tags.value);
  const up = place.file === undefined ? {} : place.tag ? { tag: place.tag } : { commit };
  return html`
    <section class="viewer" aria-labelledby="h-open">
      <div class="what">
        <h2 id="h-open" title=${commit}>${place.file ?? tag?.name ?? subject ?? "a commit"}</h2>
        <p>${text ? `${size(text.bytes)} · ` : ""}<code>${sha(commit)}</code></p>
        <a class="btn quiet icon" href=${href(up)} aria-label=${place.file === undefined ? "close" : "close the file"}
          onClick=${within(go)}><${Icon} name="x" /></a>
      </div>
      <${Body} opened=${opened} options=${options} go=${go} />
    </section>`;
}
