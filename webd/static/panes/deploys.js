/** D3PL0Y: what is being made live, with its log as it grows; what was; and what came to nothing. */
import { html, signal, useEffect, useMemo, useState } from "../html.js";
import { cancelDeployment, deedOf, rollBack } from "../act/decisions.js";
import { BuildLog } from "../live/buildlog.js";
import { agents, builds, deployments, proposals } from "../live/store.js";
import { Armed } from "../parts/buttons.js";
import { Guarded } from "../parts/guarded.js";
import { Empty, Head } from "../parts/head.js";
import { Since } from "../parts/times.js";
import { count } from "../words/amounts.js";
import { deploymentWords, generations, history, isGivableUp, isOlder, runs, short } from "../words/decisions.js";

/** @import {BuildLine, Deployment, Proposal} from "../types/wire" */
/** @import {Signal} from "../vendor/signals-core.js" */

const SHOWN_MAX = 5;
const TAIL_LINES = 6;

/** The steps on the way, and how far each is. @type {Partial<Record<Deployment["state"], number>>} */
const FAR = { waiting: 0, building: 1, switching: 2, checking: 3 };
const STEPS = 4;

/** @param {{lines: BuildLine[]}} props */
const Lines = ({ lines }) => lines.map((line) => html`<p key=${line.offset}>${line.text || " "}</p>`);

/** A whole log, which grows while its deployment runs. @param {{row: Deployment}} props */
function Log({ row: { agent, number } }) {
  const log = useMemo(() => new BuildLog(agent, number), [agent, number]);
  const told = builds.value.get(`${agent}/${number}`);
  useEffect(() => void log.load(), [log]);
  useEffect(() => {
    if (told) log.take(told);
  }, [log, told, log.lines.value === null]);
  const lines = log.lines.value;
  return html`
    <div class="buildlog" role="log" aria-live="off" tabindex="0" aria-label=${`log of deployment ${number} of ${agent}`}>
      ${log.fault.value && html`<p class="undrawn" role="alert"><b>the log cannot be read:</b> ${log.fault.value}</p>`}
      ${log.before.value !== null && html`<button class="btn quiet older" type="button" onClick=${() => log.older()}>earlier lines</button>`}
      ${lines === null ? !log.fault.value && html`<p>reading…</p>` : lines.length ? html`<${Lines} lines=${lines} />` : html`<p>it says nothing.</p>`}
    </div>`;
}

/** Logs that are open, by the key of their deployment: they stay open when it ends. @type {Signal<ReadonlySet<string>>} */
const opened = signal(new Set());

/** @param {Deployment} row */
const isOpen = ({ agent, number }) => opened.value.has(`${agent}/${number}`);

/** @param {{row: Deployment}} props */
function LogButton({ row: { agent, number }, row }) {
  const toggle = () => {
    const next = new Set(opened.peek());
    if (!next.delete(`${agent}/${number}`)) next.add(`${agent}/${number}`);
    opened.value = next;
  };
  return html`
    <button class="btn quiet" type="button" aria-expanded=${isOpen(row) ? "true" : "false"} onClick=${toggle}>log<span
      class="sr"> of deployment ${number} of ${agent}</span></button>`;
}

/** One that is under way. @param {{row: Deployment}} props */
function Running({ row }) {
  const { agent, number, state, since_ms, began_ms, detail, commit } = row;
  const lines = builds.value.get(`${agent}/${number}`)?.lines ?? [];
  return html`
    <li class="card mauve job" data-deployment=${`${agent}/${number}`}>
      <p><b>${agent}</b> ${deploymentWords(row)} <span class="sha" title=${commit}>${short(commit)}</span>
        <span class="state starting">${state} <${Since} ms=${since_ms} as="timer" /></span>
        <span class="end fine">began <${Since} ms=${began_ms} after=" ago" /></span></p>
      <progress value=${FAR[state] ?? 0} max=${STEPS} aria-label=${`${agent}: ${state}, step ${FAR[state] ?? 0} of ${STEPS}`}></progress>
      ${detail && html`<p class="fine">${detail}</p>`}
      ${isOpen(row) ? html`<${Log} row=${row} />` : lines.length > 0 && html`<div class="buildlog last" aria-hidden="true"><${Lines} lines=${lines.slice(-TAIL_LINES)} /></div>`}
      <div class="acts">
        <${LogButton} row=${row} />
        ${
          isGivableUp(row) &&
          html`<${Armed} deed=${deedOf.cancel(row)} doing="giving up…"
            run=${() => cancelDeployment(row)}>cancel<span class="sr"> deployment ${number} of ${agent}</span><//>`
        }
      </div>
    </li>`;
}

/** One that has ended. @param {{row: Deployment, newest: Map<string, number>}} props */
function Ended({ row, newest }) {
  const { agent, number, state, kind, ended_ms, detail, commit } = row;
  const there = agents.value.has(agent);
  const live = there && state === "deployed" && kind !== "init" && newest.get(agent) === number;
  return html`
    <li class=${`deploy ${state}`} data-deployment=${`${agent}/${number}`}>
      <span class="what">${there ? html`<a href=${`/agent/${agent}/`} data-step>${agent}</a>` : html`<b>${agent}</b>`} ${deploymentWords(row)}</span>
      <span class="became">${live ? "live" : state} <${Since} ms=${ended_ms ?? row.since_ms} after=" ago" /></span>
      <span class="why"><a class="sha" href=${`/agent/${agent}/config?commit=${commit}`} title=${commit}>${short(commit)}</a> ${detail}</span>
      <span class="acts">
        <${LogButton} row=${row} />
        ${
          isOlder(row, newest) &&
          there &&
          html`<${Armed} deed=${deedOf.rollBack(row)} tone="quiet" doing="going back…" armed=${`sure? back to ${number}`}
            run=${() => rollBack(row)}>roll back<span class="sr"> ${agent} to generation ${number}</span><//>`
        }
      </span>
      ${isOpen(row) && html`<${Log} row=${row} />`}
    </li>`;
}

/** A proposal that came to nothing. @param {{row: Proposal}} props */
const Refused = ({ row: { agent, number, state, decided_ms, proposed_ms, reason, commit } }) => html`
  <li class=${`deploy ${state}`} data-proposal=${`${agent}/${number}`}>
    <span class="what"><b>${agent}</b> proposal ${number}</span>
    <span class="became">${state} <${Since} ms=${decided_ms ?? proposed_ms} after=" ago" /></span>
    <span class="why"><span class="sha" title=${commit}>${short(commit)}</span> ${reason}</span>
  </li>`;

export function Deploys() {
  const [all, setAll] = useState(false);
  const rows = [...deployments.value.values()];
  const going = rows.filter(runs).sort((a, b) => a.began_ms - b.began_ms || a.agent.localeCompare(b.agent));
  const newest = generations(rows);
  const ended = history(rows, proposals.value.values());
  const shown = all ? ended : ended.slice(0, SHOWN_MAX);
  return html`
    <section id="deploys" aria-labelledby="h-deploys">
      <${Head} id="h-deploys" title="D3PL0Y" plain="deployments: what is made live"
        says=${going.length ? `${count(going.length, "deployment")} under way` : "nothing is being deployed"}>
        <a class="btn quiet" href="/meta">what is live</a>
      <//>
      ${!going.length && !ended.length && html`<${Empty} title="nothing was deployed yet.">what you approve becomes live here.<//>`}
      ${
        going.length > 0 &&
        html`<ol class="jobs">${going.map((row) => html`<${Guarded} key=${`${row.agent}/${row.number}`} what=${`deployment ${row.number} of ${row.agent}`}><${Running} row=${row} /><//>`)}</ol>`
      }
      <ul class="deploys" aria-label="what was deployed, and what came to nothing">
        ${shown.map(
          ({ key, deployment, proposal }) => html`<${Guarded} key=${key} what=${key}>${
            deployment ? html`<${Ended} row=${deployment} newest=${newest} />` : html`<${Refused} row=${proposal} />`
          }<//>`,
        )}
      </ul>
      ${
        ended.length > SHOWN_MAX &&
        html`<button class="btn quiet unfold" type="button" aria-expanded=${all ? "true" : "false"}
          onClick=${() => setAll(!all)}>${all ? "fewer" : `all ${ended.length}`}</button>`
      }
    </section>`;
}
