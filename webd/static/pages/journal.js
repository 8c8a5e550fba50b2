/**
 * The page `/agent/<name>/journal`: what a cage's processes wrote; it follows its end.
 */
import { html, useMemo, valueTo } from "../html.js";
import { Header } from "../agent/header.js";
import { filterText, setFilter } from "../act/place.js";
import { get } from "../act/post.js";
import { zone } from "../live/clock.js";
import { agentNow, names } from "../live/store.js";
import { Empty } from "../parts/head.js";
import { Scroller } from "../parts/scroller.js";
import { count } from "../words/amounts.js";
import { highlighted } from "../words/filter.js";
import { absolute, timeOfDay } from "../words/times.js";

/** @import {Line} from "../types/wire" */
/** @import {Journal} from "../live/journal.js" */
/** @import {Zone} from "../words/times.js" */

const PAGE_LINES = 300;
const CHUNK_LINES = 100;

/** @param {{line: Line, words: readonly string[], zone: Zone}} props */
const LineOf = ({ line, words, zone: shown }) => html`
  <p class=${line.level === "info" ? "" : line.level}>
    ${line.at_ms === null ? html`<time></time>` : html`<time title=${absolute(line.at_ms, shown)}>${timeOfDay(line.at_ms, shown)}</time>`}
    <b>${line.level}</b>
    <span>${highlighted(line.text, words).map((piece, i) => (i % 2 ? html`<mark>${piece}</mark>` : piece))}</span>
  </p>`;

/** Lines cut into chunks by their place in the file, so that a new line draws one chunk. @param {Line[]} lines */
function chunks(lines) {
  /** @type {Line[][]} */
  const cut = [];
  for (let i = 0; i < lines.length; i += CHUNK_LINES) cut.push(lines.slice(i, i + CHUNK_LINES));
  return cut;
}

/** @param {{lines: Line[], words: readonly string[]}} props */
const Chunk = ({ lines, words }) => html`
  <div class="chunk">
    ${lines.map((line) => html`<${LineOf} key=${line.offset} line=${line} words=${words} zone=${zone.value} />`)}
  </div>`;

/** @param {{name: string, current: boolean}} props */
const Cage = ({ name, current }) => html`
  <a href=${`/agent/${name}/journal`} aria-current=${current ? "page" : undefined}>${name}</a>`;

/** @param {{name: string, journal: Journal}} props */
export function JournalPage({ name, journal }) {
  const text = filterText.value;
  const { rows, more } = journal.lines.value;
  const words = useMemo(() => text.toLowerCase().split(/\s+/).filter(Boolean), [text]);
  const shown = words.length
    ? rows.filter((line) => words.every((word) => line.text.toLowerCase().includes(word)))
    : rows;
  const older = async () => {
    const page = await get(`/api/v1/log/journal:${name}?before=${journal.oldest}&limit=${PAGE_LINES}`);
    journal.prepend(page.lines, page.more);
  };
  const below = html`
    <form class="prompt find" role="search" onSubmit=${(/** @type {Event} */ event) => event.preventDefault()}>
      <input class="field" id="filter" type="search" aria-label="filter the journal" placeholder="filter  /"
        value=${text} onInput=${valueTo(setFilter)} />
      <nav class="cages" aria-label="journals">${names.value.map((other) => html`<${Cage} key=${other} name=${other} current=${other === name} />`)}</nav>
      <span class="fine">${words.length ? `${shown.length} of ` : ""}${count(rows.length, "line")}</span>
    </form>`;
  return html`
    <main class="agent alone" id="main" tabindex="-1">
      <${Header} name=${name} agent=${agentNow(name)} view="journal" />
      <${Scroller} label=${`journal of ${name}`} kind="tail journal" added=${journal.added}
        more=${more && rows.length > 0} older=${older} below=${below}>
        ${chunks(shown).map((lines) => html`<${Chunk} key=${lines[0].offset} lines=${lines} words=${words} />`)}
        ${!shown.length &&
        (words.length
          ? html`<${Empty} title="no line matches.">the filter looks at the lines that are loaded.<//>`
          : html`<${Empty} title="nothing in the journal yet.">what the cage's processes write lands here.<//>`)}
      <//>
    </main>`;
}
