/** Where a page begins: the boot block fills the store, the stream keeps it true, the page is drawn. */
import { effect, html, render } from "./html.js";
import { loadDismissed, session } from "./act/deeds.js";
import { keys, press, startKeyboard, step } from "./act/keyboard.js";
import { followAddress } from "./act/place.js";
import { tell } from "./act/toasts.js";
import { loadZone, setServerTime, startClock, toggleZone } from "./live/clock.js";
import { accept, applySnapshot, applyWhenHidden, feed } from "./live/intake.js";
import { Journal } from "./live/journal.js";
import { after } from "./live/link.js";
import { agentNow, callCount, link, manager } from "./live/store.js";
import { browser, followVisibility, openStream } from "./live/stream.js";
import { Tail } from "./live/tail.js";
import { AgentPage } from "./pages/agent.js";
import { ConfigPage } from "./pages/config.js";
import { EnrolPage } from "./pages/enrol.js";
import { FilesPage } from "./pages/files.js";
import { JournalPage } from "./pages/journal.js";
import { MetaPage } from "./pages/meta.js";
import { StatsPage } from "./pages/stats.js";
import { SwarmPage } from "./pages/swarm.js";
import { Banners } from "./panes/banners.js";
import { Foot } from "./panes/foot.js";
import { KeySheet, openKeySheet } from "./panes/keysheet.js";
import { openPalette, Palette } from "./panes/palette.js";
import { Strip } from "./panes/strip.js";
import { Toasts } from "./panes/toasts.js";
import { Guarded } from "./parts/guarded.js";
import { showCount } from "./parts/badge.js";

/** @import {Boot} from "./types/wire" */
/** @import {ComponentChildren} from "./vendor/preact.js" */

/** What every page follows. */
const COMMON = [
  ...["hive", "agents", "flow", "questions", "parked", "reminders", "accounts", "refusals", "limits", "kept"],
  ...["drafts", "proposals", "deployments", "builds"],
];

/** @returns {Boot} */
function bootBlock() {
  return JSON.parse(document.getElementById("boot")?.textContent ?? "");
}

/** What escape does on this page, when something can be armed by it. @type {(() => boolean) | null} */
let arm = null;

/**
 * @param {Boot["page"]} page
 * @returns {{topics: string[], content: ComponentChildren}}
 */
function chosen({ kind, agent = "" }) {
  if (kind === "agent") {
    const tail = new Tail();
    feed(`tail:${agent}`, tail);
    return {
      topics: [`tail:${agent}`],
      content: html`<${AgentPage} name=${agent} tail=${tail}
        armer=${(/** @type {() => boolean} */ click) => (arm = click)} />`,
    };
  }
  if (kind === "journal") {
    const journal = new Journal();
    feed(`journal:${agent}`, journal);
    return { topics: [`journal:${agent}`], content: html`<${JournalPage} name=${agent} journal=${journal} />` };
  }
  if (kind === "files") return { topics: [], content: html`<${FilesPage} name=${agent} />` };
  if (kind === "stats") return { topics: [], content: html`<${StatsPage} name=${agent} />` };
  if (kind === "config") return { topics: [], content: html`<${ConfigPage} name=${agent} />` };
  if (kind === "meta") return { topics: [], content: html`<${MetaPage} />` };
  if (kind === "enrol") return { topics: [], content: html`<${EnrolPage} />` };
  return { topics: [], content: html`<${SwarmPage} />` };
}

/** @param {Boot["page"]} page */
function bindKeys({ agent }) {
  const go = (/** @type {string} */ href) => () => location.assign(href);
  keys([
    { keys: "ctrl k", does: "jump anywhere, do anything", run: openPalette },
    { keys: "?", does: "these keys", run: openKeySheet },
    { keys: "g s", does: "swarm", run: go("/#swarm") },
    { keys: "g c", does: "your call", run: go("/#calls") },
    { keys: "g m", does: "message flow", run: go("/#matrix") },
    { keys: "g d", does: "deployments", run: go("/#deploys") },
    { keys: "g q", does: "questions", run: go("/#questions") },
    { keys: "g r", does: "reminders", run: go("/#schedules") },
    { keys: "g j", does: "journal", run: () => location.assign(`/agent/${agent ?? manager.peek()}/journal`) },
    { keys: "j", does: "next row", run: () => step(1) },
    { keys: "k", does: "row before", run: () => step(-1) },
    { keys: "enter", does: "open the row", run: () => {} },
    { keys: "a", does: "approve the proposal in focus", run: () => press("a") },
    { keys: "d", does: "deny it, with a reason", run: () => press("d") },
    { keys: "/", does: "filter", run: () => document.getElementById("filter")?.focus() },
    { keys: "w", does: "write a message", run: () => document.getElementById("compose")?.focus() },
    { keys: "t", does: "local time or UTC", run: toggleZone },
    { keys: "esc", does: "leave a field; on an agent's page, twice: cancel its turn", run: () => arm?.() },
  ]);
}

/** What pages are called in the title, beside the agent's name. @type {Record<Boot["page"]["kind"], string>} */
const NAMES = {
  swarm: "SW4RM",
  agent: "",
  journal: "J0URN4L",
  stats: "ST4TS",
  files: "F1L3S",
  config: "C0NF1G",
  meta: "M3T4",
  enrol: "K3YS",
};

/** The title says what is looked at and how much waits. @param {Boot["page"]} page */
function titled({ kind, agent }) {
  const GLYPH = { thinking: "◐ ", crashed: "✕ ", failed: "✕ ", limited: "◼ ", parked: "◇ " };
  effect(() => {
    const waiting = callCount.value;
    const state = agent ? (agentNow(agent)?.state ?? "") : "";
    const glyph = /** @type {Record<string, string>} */ (GLYPH)[state] ?? "";
    const name = kind === "agent" ? `${glyph}${agent}` : agent ? `${NAMES[kind]} ${agent}` : NAMES[kind];
    document.title = `${waiting ? `(${waiting}) ` : ""}${name} · hyperhive`;
    showCount(waiting);
  });
}

/** What goes wrong in the page itself is told, not swallowed. */
function tellFaults() {
  const said = (/** @type {unknown} */ fault) =>
    tell(`this page met a defect: ${fault instanceof Error ? fault.message : String(fault)}`, { bad: true });
  addEventListener("error", (event) => said(event.error ?? event.message));
  addEventListener("unhandledrejection", (event) => said(event.reason));
}

function begin() {
  tellFaults();
  const boot = bootBlock();
  loadZone();
  loadDismissed();
  followAddress();
  const { topics, content } = chosen(boot.page);
  applySnapshot(boot.snapshot, boot.cursor);
  startClock();
  const stream = openStream(
    {
      topics: [...COMMON, ...topics],
      cursor: boot.cursor,
      snapshot: (snapshot, at) => accept({ snapshot, at }),
      arrival: (arrival, at) => accept({ arrival, at }),
      heartbeat: (now_ms, at) => (setServerTime(now_ms), accept({ at })),
      link: (step) => (link.value = after(link.peek(), step)),
    },
    browser,
  );
  session.onSignedOut = () => stream.signOut();
  followVisibility(stream);
  applyWhenHidden();
  bindKeys(boot.page);
  startKeyboard();
  titled(boot.page);
  const root = document.getElementById("app");
  if (!root) throw new Error("the shell has no #app");
  root.replaceChildren();
  render(
    html`
      <a class="skip" href="#main">skip to content</a>
      <${Strip} kind=${boot.page.kind} agent=${boot.page.agent} />
      <${Banners} now=${() => stream.now()} />
      <${Guarded} what="this page">${content}<//>
      <${Foot} />
      <${Toasts} />
      <${Palette} />
      <${KeySheet} />`,
    root,
  );
  if (location.hash) document.getElementById(location.hash.slice(1))?.scrollIntoView();
}

begin();
