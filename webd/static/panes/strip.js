/** The strip on top: the hive's name, the panes, the way to jump, the clock and the link. */
import { html, useDerived, useEffect } from "../html.js";
import { toggleZone, zone, now_ms } from "../live/clock.js";
import { agents, callCount, deployments, judged, drafts, kept, manager } from "../live/store.js";
import { pane } from "../act/place.js";
import { Icon, Mark } from "../parts/pictures.js";
import { runs } from "../words/decisions.js";
import { absolute, age, timeOfDay } from "../words/times.js";
import { openPalette } from "./palette.js";

/** @import {IconName} from "../parts/pictures.js" */

/**
 * @typedef {object} PaneProps
 * @property {string} href
 * @property {IconName} icon
 * @property {string} title
 * @property {string} plain
 * @property {boolean} current
 * @property {number} [tally]
 * @property {boolean} [hot]       the tally wants the operator
 * @property {boolean} [more]      not among the few for the thumb
 */

/** @param {PaneProps} props */
const Pane = ({ href, icon, title, plain, current, tally = 0, hot = false, more = false }) => html`
  <li class=${more ? "more" : ""}>
    <a href=${href} aria-current=${current ? "page" : undefined} title=${plain}>
      <${Icon} name=${icon} /><span>${title}<span class="sr">${" "}${plain}</span></span>
      ${tally > 0 && html`<span class=${`tally ${hot ? "hot" : ""}`}>${tally}</span>`}
    </a>
  </li>`;

/** @import {Boot} from "../types/wire" */

/** @param {Boot["page"]} props */
function Panes({ kind, agent }) {
  const here =
    kind === "swarm" ? pane.value || "swarm" : kind === "journal" ? "journal" : kind === "meta" ? "deploys" : "swarm";
  const cage = agent ?? manager.value;
  const going = [...deployments.value.values()].filter(runs).length;
  return html`
    <nav class="panes" aria-label="panes">
      <ul>
        <${Pane} href="/#swarm" icon="swarm" title="SW4RM" plain="swarm" current=${here === "swarm"}
          tally=${agents.value.size} />
        <${Pane} href="/#calls" icon="call" title="Y3R C4LL" plain="your call" current=${here === "calls" || here === "questions"}
          tally=${callCount.value} hot />
        <${Pane} href="/#matrix" icon="matrix" title="M4TR1X" plain="message flow" current=${here === "matrix"} />
        <${Pane} href="/#deploys" icon="deploy" title="D3PL0Y" plain="deployments" current=${here === "deploys"} tally=${going} />
        <${Pane} href="/#schedules" icon="clock" title="SCH3DUL3S" plain="schedules" current=${here === "schedules"} more />
        ${drafts.value.size > 0 &&
        html`<${Pane} href="/#drafts" icon="box" title="DR4FTS" plain="drafts" current=${here === "drafts"} tally=${drafts.value.size} more />`}
        ${kept.value.size > 0 &&
        html`<${Pane} href="/#kept" icon="box" title="K3PT ST4T3" plain="kept state" current=${here === "kept"} more />`}
        ${cage &&
        html`<${Pane} href=${`/agent/${cage}/journal`} icon="journal" title="J0URN4L" plain="journal" current=${here === "journal"} />`}
      </ul>
    </nav>`;
}

function Clock() {
  const text = useDerived(() => timeOfDay(now_ms.value, zone.value), []);
  const title = useDerived(() => absolute(now_ms.value, zone.value), []);
  return html`
    <button class="clock" type="button" title=${title} onClick=${toggleZone}>
      <time>${text}</time>${zone.value === "utc" && html` <small>UTC</small>`}<span
        class="sr">${zone.value === "utc" ? ": show local time" : " local time: show UTC"}</span>
    </button>`;
}

function LinkChip() {
  const { word, silent_ms } = judged.value;
  const tone = word === "live" || word === "parked" ? "" : word === "opening" || word === "slow" ? "slow" : "lost";
  const since = word === "slow" || word === "lost" ? age(silent_ms) : "";
  return html`
    <span class=${`link ${tone}`} title="the live link to webd">
      <i></i><span role="status">${word}</span>${since && html`<span class="long"> · ${since}</span>`}
    </span>`;
}

/** On a phone the panes lie under each other: the one in view is the current one. */
function useScrollSpy() {
  useEffect(() => {
    const narrow = matchMedia("(max-width: 960px)");
    const spy = new IntersectionObserver(
      (seen) => seen.forEach((entry) => entry.isIntersecting && narrow.matches && (pane.value = entry.target.id)),
      { rootMargin: "-35% 0px -60% 0px" },
    );
    for (const id of ["swarm", "calls", "questions", "deploys", "schedules", "matrix", "drafts", "kept"]) {
      const section = document.getElementById(id);
      if (section) spy.observe(section);
    }
    return () => spy.disconnect();
  }, []);
}

/** @param {Boot["page"]} props */
export function Strip({ kind, agent }) {
  useScrollSpy();
  return html`
    <header class="strip">
      <a class="brand" href="/" aria-label="hyperhive home"><${Mark} /><span>hyper<b>hive</b></span></a>
      <${Panes} kind=${kind} agent=${agent} />
      <div class="tools">
        <button class="jump" type="button" aria-keyshortcuts="Control+K" aria-haspopup="dialog"
          onClick=${() => openPalette()}>
          <${Icon} name="search" /><span>jump to…</span><kbd aria-hidden="true">ctrl k</kbd>
        </button>
        <${Clock} />
        <${LinkChip} />
      </div>
    </header>`;
}
