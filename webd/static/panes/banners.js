/**
 * What the reader must know whatever they look at: a lost link, a session that ended, daemons that are down, notices.
 */
import { html, useState } from "../html.js";
import { now_ms, serverNow, zone } from "../live/clock.js";
import { agents, hive, judged, link } from "../live/store.js";
import { Until } from "../parts/times.js";
import { timeOfDay } from "../words/times.js";

/** What does not work while a daemon is down. @type {Record<string, string>} */
const WITHOUT = {
  privd: "cages keep running; starting, stopping and journals wait",
  brokerd: "agents keep their cages; messages wait",
  egressd: "agents reach nothing outside",
};

/** @param {{now: () => void}} props   `now`: try the link at once */
function Lost({ now }) {
  const { word, silent_ms } = judged.value;
  if (word === "signed out") {
    return html`
      <p class="banner" role="alert">
        <b>◇ signed out</b> what you typed is kept. <code>hivectl login</code> on the host prints a link. <a
          class="btn quiet" href="/login">sign in</a>
      </p>`;
  }
  const as_of = timeOfDay(serverNow() - silent_ms, zone.value);
  const due_s = now_ms.value && link.value.retry_ms ? Math.ceil((link.value.retry_ms - Date.now()) / 1_000) : 0;
  return html`
    <p class="banner">
      <span role="alert"><b>◌ link lost</b> true as of ${as_of}.</span>
      <span class="num">${due_s > 0 ? `trying again in ${due_s} s` : "trying…"}</span>
      <button class="btn quiet" type="button" onClick=${now}>now</button>
    </p>`;
}

/** @param {{notices: string[]}} props */
function Notices({ notices }) {
  const [open, setOpen] = useState(false);
  const [first, ...rest] = notices;
  return html`
    <aside class="notices" aria-label="standing notices">
      <ul>
        <li>${first}</li>
        ${open && rest.map((notice) => html`<li>${notice}</li>`)}
      </ul>
      ${
        rest.length > 0 &&
        html`<button class="btn quiet" type="button" aria-expanded=${open ? "true" : "false"}
          onClick=${() => setOpen(!open)}>${open ? "fewer" : `${rest.length} more`}</button>`
      }
    </aside>`;
}

/** Agents that a limit holds, and until when. */
function Limited() {
  const held = [...agents.value.values()].map((agent) => agent.value).filter((agent) => agent.state === "limited");
  if (!held.length) return null;
  return html`
    <p class="banner limit" role="status">
      <b>◼ rate-limited</b>
      ${held.map(
        ({ name, until_ms }) =>
          html`<span key=${name}><a href=${`/agent/${name}/`}>${name}</a>${until_ms !== null && html` <${Until} ms=${until_ms} before="until ~" />`}</span>`,
      )}
    </p>`;
}

/** @param {{now: () => void}} props */
export function Banners({ now }) {
  const down = Object.entries(hive.value?.daemons ?? {}).filter(([, state]) => state === "down");
  const notices = hive.value?.notices ?? [];
  return html`
    ${judged.value.banner && html`<${Lost} now=${now} />`}
    ${down.map(([name]) => html`<p class="banner" role="status"><b>◌ ${name} is down</b> ${WITHOUT[name] ?? ""}</p>`)}
    <${Limited} />
    ${notices.length > 0 && html`<${Notices} notices=${notices} />`}`;
}
