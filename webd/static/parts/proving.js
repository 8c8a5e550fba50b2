/**
 * What stands beside the button that approves: which proof it takes, the code to compare with a terminal, and the command
 * to type where this page can prove nothing.
 */
import { html } from "../html.js";
import { hindrance, prove } from "../act/passkey.js";
import { credentials } from "../words/passkeys.js";

/** @import {Approver, PasskeyProof} from "../types/configuration" */

/**
 * What is needed of a proposal's page.
 * @typedef {object} Shown
 * @property {{agent: string, number: number, approvals: string[]}} proposal
 * @property {string} digest            empty where nothing can be approved
 * @property {string} code
 * @property {Approver[]} approvers     empty while a click is enough
 */

/** Passkeys that have not approved it yet. @param {Shown} shown */
const left = ({ proposal, approvers }) => credentials(approvers.filter(({ name }) => !proposal.approvals.includes(name)));

/**
 * With what this page can approve. "terminal": another way can; "none": nothing can, since not all of it is shown.
 * @param {Shown} shown
 * @returns {"click" | "passkey" | "terminal" | "none"}
 */
export function wayOf(shown) {
  if (!shown.digest) return "none";
  if (!shown.approvers.length) return "click";
  return left(shown).length && !hindrance() ? "passkey" : "terminal";
}

/**
 * The proof that goes with an approval. A Refusal says why there is none.
 * @param {Shown} shown
 * @returns {Promise<PasskeyProof | {kind: "click"}>}
 */
export async function proofOf(shown) {
  return wayOf(shown) === "click" ? { kind: "click" } : await prove(shown.digest, left(shown));
}

/** `1234 5678`. @param {string} code */
const spacedCode = (code) => code.replace(/(?<=^.{4})/, " ");

/** @param {{shown: Shown}} props */
function AtTerminal({ shown }) {
  const { proposal, approvers } = shown;
  const held = left(shown).length ? hindrance() : null;
  const why = credentials(approvers).length
    ? "every passkey has approved it: the other keys sign at your terminal."
    : "only SSH keys are enrolled: they sign at your terminal.";
  return html`
    <p>${held ? `no passkey can be used here: ${held.why}.` : why}</p>
    ${held?.instead && html`<p><a href=${held.instead}>open this page by name</a>, and sign in there</p>`}
    <p class="command"><code>hivectl approve ${proposal.agent} ${proposal.number} --sign KEYFILE</code></p>`;
}

/** @param {{shown: Shown}} props */
export function Proving({ shown }) {
  const way = wayOf(shown);
  if (way === "click") return null;
  const { agent, number } = shown.proposal;
  if (way === "none") {
    return html`<p class="why moved" role="status"><b>it cannot be approved:</b> it changes more than one page can show. deny it, and ask for smaller steps.</p>`;
  }
  return html`
    <div class="proving" role="note" aria-label="what proves an approval">
      ${
        way === "passkey"
          ? html`<p>approving asks for your passkey. it signs this commit, over what is deployed now.</p>`
          : html`<${AtTerminal} shown=${shown} />`
      }
      <p class="fine">code <b class="num">${spacedCode(shown.code)}</b>: <code>hivectl show ${agent} ${number}</code> prints the same.</p>
    </div>`;
}
