/**
 * What the reader must know whatever they look at: a lost link, a session that ended, daemons that are down, notices.
 */
import { html, useState } from "../html.js";
import { now_ms, serverNow, zone } from "../live/clock.js";
import { accounts, agents, hive, judged, link } from "../live/store.js";
import { resumeAccount } from "../act/deeds.js";
import { Deed } from "../parts/buttons.js";
import { Until } from "../parts/times.js";
import { windowWords } from "../words/limits.js";
import { timeOfDay } from "../words/times.js";

/** @import {Account} from "../types/wire" */

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

/** @param {{name: string}} props */
const Named = ({ name }) => html`<a href=${`/agent/${name}/`}>${name}</a>`;

/** Agents that a limit of their own holds, and until when. */
function Limited() {
  const held = [...agents.value.values()]
    .map((agent) => agent.value)
    .filter((agent) => agent.state === "limited" && agent.limited_by === null);
  if (!held.length) return null;
  return html`
    <p class="banner limit" role="status">
      <b>◼ rate-limited</b>
      ${held.map(
        ({ name, until_ms }) =>
          html`<span key=${name}><${Named} name=${name} />${until_ms !== null && html` <${Until} ms=${until_ms} before="until ~" />`}</span>`,
      )}
    </p>`;
}

/** Who is named of those that an account's limit holds; the rest is counted. */
const HELD_SHOWN = 8;

/** A model account whose limit holds its agents, until when, and what of it is left. @param {{account: Account}} props */
function LimitedAccount({ account }) {
  const { name, limited_until_ms, windows, detail } = account;
  const held = account.held.filter((agent) => agents.value.has(agent));
  const rest = held.length - HELD_SHOWN;
  return html`
    <div class="banner limit account" role="status">
      <b title=${detail}>${limited_until_ms === null ? "● going on" : "◼ rate-limited"}</b>
      <span>account ${name}${limited_until_ms !== null && html` <${Until} ms=${limited_until_ms} before="until ~" />`}</span>
      <span>${held.slice(0, HELD_SHOWN).map((agent, i) => html`${i > 0 && ", "}<${Named} key=${agent} name=${agent} />`)}${rest > 0 && ` and ${rest} more`}${
        limited_until_ms === null && " wait for their turn"
      }</span>
      ${
        windows.length > 0 &&
        html`<ul class="windows">${windows.map((window) => html`<li key=${window.name}>${windowWords(window, now_ms.value, zone.value)}</li>`)}</ul>`
      }
      ${
        limited_until_ms !== null &&
        html`<${Deed} deed=${`resume account ${name}`} tone="quiet" doing="resuming…" label=${`resume account ${name}`}
          run=${() => resumeAccount(name)}>resume<//>`
      }
    </div>`;
}

/** Accounts whose limits hold anybody, or will. */
function LimitedAccounts() {
  const limited = [...accounts.value.values()].filter(
    (account) => account.limited_until_ms !== null || account.held.some((agent) => agents.value.has(agent)),
  );
  return limited.map((account) => html`<${LimitedAccount} key=${account.name} account=${account} />`);
}

/** @param {{now: () => void}} props */
export function Banners({ now }) {
  const down = Object.entries(hive.value?.daemons ?? {}).filter(([, state]) => state === "down");
  const notices = hive.value?.notices ?? [];
  return html`
    ${judged.value.banner && html`<${Lost} now=${now} />`}
    ${down.map(([name]) => html`<p class="banner" role="status"><b>◌ ${name} is down</b> ${WITHOUT[name] ?? ""}</p>`)}
    <${LimitedAccounts} />
    <${Limited} />
    ${notices.length > 0 && html`<${Notices} notices=${notices} />`}`;
}
