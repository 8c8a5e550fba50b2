/**
 * The page `/enrol`: makes a passkey and shows the line with which root lets it decide. Nothing is enrolled from here: only
 * root at a terminal can do that.
 */
import { html, useEffect, useState, valueTo } from "../html.js";
import { hindrance, make } from "../act/passkey.js";
import { get, Refusal } from "../act/post.js";
import { tell } from "../act/toasts.js";
import { hive } from "../live/store.js";
import { Empty, Head } from "../parts/head.js";
import { Since } from "../parts/times.js";
import { count } from "../words/amounts.js";
import { keyWords, nameFault } from "../words/passkeys.js";

/** @import {Approver} from "../types/configuration" */

/** Whether root has enrolled what was made is looked for this often. */
const LOOK_MS = 2_000;

/** @param {{approver: Approver}} props */
const Key = ({ approver: { name, key, fingerprint, enrolled_ms, revoked_ms } }) => html`
  <li data-key=${name} class=${revoked_ms === null ? "" : "revoked"}>
    <b>${name}</b> <span class="tag">${keyWords(key)}</span>
    ${revoked_ms !== null && html`<span class="tag bad">revoked</span>`}
    <code>${fingerprint}</code>
    <${Since} ms=${revoked_ms ?? enrolled_ms} after=" ago" />
  </li>`;

/** @param {{approvers: readonly Approver[]}} props */
function Keys({ approvers }) {
  const active = approvers.filter(({ revoked_ms }) => revoked_ms === null);
  const says = active.length ? `${count(active.length, "key")} decide${active.length === 1 ? "s" : ""}` : "a click decides";
  return html`
    <section aria-labelledby="h-keys">
      <${Head} id="h-keys" title="K3YS" plain="keys" says=${says} />
      ${
        approvers.length
          ? html`<ul class="keys">${approvers.map((approver) => html`<${Key} key=${approver.name} approver=${approver} />`)}</ul>`
          : html`<${Empty} title="no key is enrolled.">whoever holds this dashboard can approve. with a key, nobody can without it.<//>`
      }
    </section>`;
}

/** @param {{made: {text: string, fingerprint: string}, enrolled: Approver | undefined}} props */
function Made({ made, enrolled }) {
  const [name, setName] = useState("");
  const fault = name && nameFault(name);
  const command = `hivectl enrol ${name && !fault ? name : "NAME"} --passkey ${made.text}`;
  const copy = () =>
    navigator.clipboard.writeText(command).then(
      () => tell("the command is copied"),
      () => tell("the browser lets nothing be copied: select the command", { bad: true }),
    );
  if (enrolled)
    return html`<div class="card go enrolled" role="status"><b>◆ ${enrolled.name} is enrolled.</b> from now on approvals ask for a key.</div>`;
  return html`
    <div class="card amber made" role="status">
      <p><b>the passkey is made. root enrols it:</b> type this on the host, as root.</p>
      <label class="row">what it is called <input class="field" autocomplete="off" spellcheck=${false} placeholder="laptop"
        aria-invalid=${fault ? "true" : undefined} value=${name} onInput=${valueTo(setName)} /></label>
      ${fault && html`<p class="problem" role="alert">${fault}</p>`}
      <pre class="command" tabindex="0" role="region" aria-label="command for root"><code>${command}</code></pre>
      <div class="row"><button class="btn go" type="button" onClick=${copy}>copy</button>
        <p class="fine">its fingerprint, which the command prints too: <code>${made.fingerprint}</code></p></div>
    </div>`;
}

/** @param {{approvers: readonly Approver[], done: (made: {text: string, fingerprint: string}) => void}} props */
function Make({ approvers, done }) {
  const [busy, setBusy] = useState(false);
  const held = hindrance();
  const start = async () => {
    setBusy(true);
    try {
      done(await make(hive.value?.name ?? "hive", approvers));
    } catch (problem) {
      if (!(problem instanceof Refusal)) throw problem;
      tell(`no passkey was made: ${problem.message}`, { bad: true });
    } finally {
      setBusy(false);
    }
  };
  return html`
    <p>a passkey, on this device or on a security key, signs each approval. privd, which runs as root, checks the signature itself: what
      can reach the dashboard but not your key can deploy nothing.</p>
    ${
      held
        ? html`<p class="problem" role="status">not here: ${held.why}. ${held.instead && html`<a href=${held.instead}>${held.instead}</a>`}</p>`
        : html`<div class="row"><button class="btn go" type="button" aria-busy=${busy ? "true" : undefined} onClick=${() => !busy && start()}>
            ${busy ? "touch it…" : "◆ M4K3 4 K3Y"}<span class="sr">: make a passkey</span></button></div>`
    }`;
}

export function EnrolPage() {
  const [approvers, setApprovers] = useState(/** @type {Approver[] | null} */ (null));
  const [fault, setFault] = useState("");
  const [made, setMade] = useState(/** @type {{text: string, fingerprint: string} | null} */ (null));
  const look = () =>
    get("/api/v1/approvers").then(
      (found) => (setApprovers(found), setFault("")),
      (problem) => setFault(problem.message),
    );
  const enrolled = made ? approvers?.find(({ fingerprint }) => fingerprint === made.fingerprint) : undefined;
  useEffect(() => void look(), []);
  useEffect(() => {
    if (!made || enrolled) return undefined;
    const timer = setInterval(look, LOOK_MS);
    return () => clearInterval(timer);
  }, [made, enrolled]);
  return html`
    <main class="enrol" id="main" tabindex="-1">
      <h1>keys that decide</h1>
      ${fault && html`<p class="problem" role="status">${fault}</p>`}
      <section aria-labelledby="h-passkey">
        <${Head} id="h-passkey" title="P4SSK3Y" plain="passkey" says="in this browser" tone="green" />
        ${approvers && (made ? html`<${Made} made=${made} enrolled=${enrolled} />` : html`<${Make} approvers=${approvers} done=${setMade} />`)}
      </section>
      <section aria-labelledby="h-ssh">
        <${Head} id="h-ssh" title="SSH" plain="SSH keys" says="at your terminal" />
        <p>a key that <code>ssh-keygen</code> made, on a disk or on a security key. it signs where you sit, and webd never sees it.</p>
        <p class="command"><code>hivectl enrol NAME --ssh ~/.ssh/id_ed25519.pub</code></p>
        <p class="command"><code>hivectl approve AGENT NUMBER --sign ~/.ssh/id_ed25519</code></p>
      </section>
      ${approvers && html`<${Keys} approvers=${approvers} />`}
    </main>`;
}
