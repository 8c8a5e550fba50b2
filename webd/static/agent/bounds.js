/** What bounds an agent: what its cage may use and met, and where it was turned away on its way out. */
import { html, useState } from "../html.js";
import { get } from "../act/post.js";
import { tell } from "../act/toasts.js";
import { limits, refusals } from "../live/store.js";
import { Head } from "../parts/head.js";
import { Since } from "../parts/times.js";
import { count, spaced } from "../words/amounts.js";
import { destination, limitLines, whyWords } from "../words/limits.js";

/** @import {Agent, EgressRefusal} from "../types/wire" */

const SHOWN_MAX = 5;
const PAGE = 50;

/** @param {{agent: Agent}} props */
export function Limits({ agent }) {
  const weak = agent.degraded.length;
  return html`
    <section aria-labelledby="h-limits">
      <${Head} id="h-limits" title="L1M1TS" plain="limits" after=${weak ? "" : "all hold"} />
      <dl class="facts">
        ${limitLines(agent.limits).map(([name, most, resource]) => {
          const hit = limits.value.get(`${agent.name} ${resource}`);
          return html`<div key=${name}>
            <dt>${name}</dt>
            <dd>${hit && html`<span class="met" title=${hit.detail}>met ${count(hit.times, "time")}, <${Since}
              ms=${hit.at_ms} after=" ago" /></span> `}${most}</dd></div>`;
        })}
      </dl>
      ${
        weak > 0 &&
        html`<p class="fine lacks" id="lacks">what this machine could not give it:</p>
          <ul class="degraded" aria-labelledby="lacks">${agent.degraded.map((lack) => html`<li>${lack}</li>`)}</ul>`
      }
    </section>`;
}

/** @param {{refusal: EgressRefusal}} props */
const Turned = ({ refusal }) => html`
  <li><b title=${destination(refusal)}>${destination(refusal)}</b>
    <span class="num">${refusal.times > 1 && `×${spaced(refusal.times)}`}</span>
    <span class="fine">${whyWords(refusal.why)} · <${Since} ms=${refusal.at_ms} after=" ago" /></span></li>`;

/** @param {{agent: Agent}} props */
export function WayOut({ agent }) {
  const [older, setOlder] = useState(/** @type {EgressRefusal[] | null} */ (null));
  const [before, setBefore] = useState(/** @type {number | null} */ (null));
  const [all, setAll] = useState(false);
  const mine = [...refusals.value.values()].filter((row) => row.agent === agent.name);
  const known = new Map([...(older ?? []), ...mine].map((row) => [row.id, row]));
  const rows = [...known.values()].sort((a, b) => b.at_ms - a.at_ms || b.id - a.id);
  const shown = all ? rows : rows.slice(0, SHOWN_MAX);
  const load = async () => {
    setAll(true);
    if (older !== null && before === null) return;
    try {
      const page = await get(`/api/v1/egress?agent=${agent.name}&limit=${PAGE}${before ? `&before=${before}` : ""}`);
      setOlder([...(older ?? []), ...page.refusals]);
      setBefore(page.before);
    } catch (problem) {
      tell(`older refusals: ${/** @type {Error} */ (problem).message}`, { bad: true });
    }
  };
  const more = !all || older === null || before !== null;
  return html`
    <section aria-labelledby="h-wayout">
      <${Head} id="h-wayout" title="W4Y 0UT" plain="way out" after=${rows.length ? "turned away" : ""} />
      ${rows.length > 0 && html`<ul class="turned">${shown.map((row) => html`<${Turned} key=${row.id} refusal=${row} />`)}</ul>`}
      <p class="fine">${rows.length ? "" : "nobody was turned away in a day. "}it may reach the model API${
        agent.egress_hosts.length ? ` and ${agent.egress_hosts.join(", ")}` : ", and no other host"
      }.</p>
      ${more && html`<button class="btn quiet older" type="button" onClick=${load}>${rows.length > SHOWN_MAX && !all ? `all ${rows.length}, and older` : "older"}</button>`}
    </section>`;
}
