/**
 * A proposal that waits for the operator: what it would change, in words and line by line, and the verdict. What is
 * approved is what was shown: when that has changed since, it is shown again first.
 */
import { html, useEffect, useState, valueTo } from "../html.js";
import { approve, deedOf, deny, withdraw } from "../act/decisions.js";
import { draft } from "../act/drafts.js";
import { isStale, look, looked, seen, stillSame } from "../live/looked.js";
import { hive } from "../live/store.js";
import { Deed } from "../parts/buttons.js";
import { Capabilities } from "../parts/capabilities.js";
import { Card } from "../parts/card.js";
import { Difference } from "../parts/difference.js";
import { Folding } from "../parts/prose.js";
import { proofOf, Proving, wayOf } from "../parts/proving.js";
import { Left } from "../parts/times.js";
import { short } from "../words/decisions.js";
import { tally } from "../words/differences.js";

/** @import {Proposal, ProposalPage} from "../types/wire" */

/** @type {Record<Proposal["kind"], string>} */
const KIND = { config: "apply config", spawn: "spawn", init: "new draft" };

/** `+4 −1`. @param {{page: ProposalPage}} props */
function Tally({ page }) {
  const { added, removed } = tally(page.diff.flatMap((file) => file.lines));
  return html`<span class="plus">+${added}</span> <span class="minus">−${removed}</span>`;
}

/** A phone has no room for more than the summary until somebody asks for it. */
const WIDE = "(min-width: 961px)";

/** @param {{proposal: Proposal, done: () => void}} props */
function Denial({ proposal, done }) {
  const reason = draft(`deny ${proposal.agent}/${proposal.number}`);
  const run = async () => {
    if (await deny(proposal, reason.text.peek().trim())) reason.type("");
  };
  const key = (/** @type {KeyboardEvent} */ event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    void run();
  };
  return html`
    <form class="denial" aria-label=${`deny proposal ${proposal.number} of ${proposal.agent}`}
      onSubmit=${(/** @type {Event} */ event) => event.preventDefault()}>
      <label>why, for ${proposal.by === "manager" ? "the manager, who reads it" : "the record"}
        <textarea class="field words" rows="2" maxlength="2000" value=${reason.text.value} ref=${focusOnce}
          onInput=${valueTo(reason.type)} onKeyDown=${key}></textarea></label>
      <div class="acts">
        <${Deed} deed=${deedOf.deny(proposal)} tone="stop" doing="denying…" run=${run}>deny<//>
        <button class="btn quiet" type="button" onClick=${done}>not yet</button>
      </div>
    </form>`;
}

/** @param {{proposal: Proposal, page: ProposalPage | null, fault: string}} props */
function What({ proposal, page, fault }) {
  const [open, setOpen] = useState(() => matchMedia(WIDE).matches);
  const { agent, number } = proposal;
  const changes = page?.proposal.capabilities ?? proposal.capabilities;
  return html`
    <${Capabilities} changes=${changes} />
    ${fault && html`<p class="undrawn" role="alert"><b>it cannot be shown:</b> ${fault}</p>`}
    ${
      page &&
      (open
        ? html`<div class="shown" role="region" tabindex="0" aria-label=${`what proposal ${number} of ${agent} changes`}><${Difference} files=${page.diff} by=${`proposal ${number} of ${agent}`} /></div>`
        : html`<button class="btn quiet unfold" type="button" onClick=${() => setOpen(true)}>line by line: <${Tally} page=${page} /></button>`)
    }`;
}

/** @param {{proposal: Proposal}} props */
export function ProposalCard({ proposal }) {
  const { agent, number, kind, by, commit, approvals } = proposal;
  const it = looked(agent, number).value;
  const [denying, setDenying] = useState(() => draft(`deny ${agent}/${number}`).text.peek() !== "");
  const stale = isStale(it, agent);
  const { page, changed, fault } = it;
  const click = hive.value?.click;
  useEffect(() => {
    if (!page || click === page.approvers.length > 0) void look(agent, number); // who may decide has changed
  }, [agent, number, click]);
  return html`
    <${Card} id=${`call-p${agent}-${number}`} colour="amber" name=${agent} kind=${KIND[kind]} since_ms=${proposal.proposed_ms}
      data=${{ "data-proposal": `${agent}/${number}` }}
      says=${html`${by === "manager" ? "via the manager" : "by you"} · <a class="sha" href=${`/agent/${agent}/config?commit=${commit}`} title=${commit}>${short(commit)}</a>${
        page && html` · <${Tally} page=${page} />`
      } · <${Left} ms=${proposal.expires_ms} />`}>
      ${proposal.description && html`<div class="why said"><${Folding} text=${proposal.description} /></div>`}
      <${What} proposal=${proposal} page=${page} fault=${fault} />
      ${approvals.length > 0 && html`<p class="why">approved by ${approvals.join(", ")}; another key must agree.</p>`}
      ${stale && html`<p class="why moved" role="status"><b>changed since you looked:</b> another generation of ${agent} was deployed meanwhile.</p>`}
      ${!stale && changed && html`<p class="why moved" role="status"><b>changed since you looked:</b> this is how it stands now.</p>`}
      ${
        denying
          ? html`<${Denial} proposal=${proposal} done=${() => setDenying(false)} />`
          : html`<${Verdict} proposal=${proposal} page=${page} stale=${stale} deny=${() => setDenying(true)} />`
      }
    <//>`;
}

/** @param {{proposal: Proposal, page: ProposalPage | null, stale: boolean, deny: () => void}} props */
function Verdict({ proposal, page, stale, deny: openDenial }) {
  const { agent, number } = proposal;
  const again = `look again ${agent}/${number}`;
  const run = async () => {
    const shown = await stillSame(agent, number);
    if (!shown) return;
    seen(agent, number);
    const answer = await approve(proposal, shown.digest, () => proofOf(shown));
    if (!answer || answer.waits) void look(agent, number); // what was shown counts once
  };
  return html`
    ${page && !stale && html`<${Proving} shown=${page} />`}
    <div class="acts">
      ${
        stale || !page
          ? html`<${Deed} deed=${again} run=${() => look(agent, number)} disabled=${!stale && !page}>${stale ? "look again" : "reading…"}<//>`
          : html`<${Deed} deed=${deedOf.approve(proposal)} tone="go" doing="approving…"
              disabled=${["terminal", "none"].includes(wayOf(page))} run=${run} letter="a">◆ APPR0VE <kbd aria-hidden="true">a</kbd><span class="sr"> approve proposal ${number} of ${agent}</span><//>`
      }
      ${
        proposal.by === "operator" &&
        html`<${Deed} deed=${deedOf.withdraw(proposal)} doing="taking back…" run=${() => withdraw(proposal)}>withdraw<//>`
      }
      <button class="btn stop" type="button" data-letter="d" aria-expanded="false"
        onClick=${openDenial}>deny… <kbd aria-hidden="true">d</kbd><span class="sr"> proposal ${number} of ${agent}</span></button>
    </div>`;
}

/** @param {HTMLElement | null} field */
function focusOnce(field) {
  if (field && !field.dataset.met) {
    field.dataset.met = "yes";
    field.focus();
  }
}
