/**
 * The browser's own ceremonies with a passkey: making one, and proving an approval with it. What a passkey signs is the
 * digest that privd has shown; privd checks it, and this page is only where it happens.
 */
import { base64, credentials, enrolmentText, fingerprint, fromBase64, fromHex, obstacle } from "../words/passkeys.js";
import { Refusal } from "./post.js";

/** @import {Approver, PasskeyProof} from "../types/configuration" */

const PATIENCE_MS = 120_000;
const ES256 = -7;
const ED25519 = -8;
const HANDLE_BYTES = 16;

/** Why no passkey can be used here; null when nothing is in the way. */
export const hindrance = () => obstacle(location, "PublicKeyCredential" in window && window.isSecureContext);

/** @param {string} id   a credential, as base64 */
const named = (id) => ({ type: /** @type {const} */ ("public-key"), id: fromBase64(id) });

/**
 * What holds a ceremony up, in words. The browser says little on purpose.
 * @param {unknown} fault
 * @returns {never}
 */
function refused(fault) {
  const name = fault instanceof DOMException ? fault.name : "";
  if (name === "NotAllowedError" || name === "AbortError")
    throw new Refusal("denied", "no passkey answered: it was cancelled, took too long, or none here is enrolled");
  if (name === "InvalidStateError") throw new Refusal("conflict", "this authenticator holds an enrolled passkey already");
  if (name === "SecurityError") throw new Refusal("denied", "the browser allows no passkey at this address");
  throw new Refusal("failed", fault instanceof Error ? fault.message : String(fault));
}

/**
 * Let one of these passkeys sign a digest. A Refusal says why it did not.
 * @param {string} digest        64 hex digits
 * @param {readonly string[]} ids   credentials, as base64
 * @returns {Promise<PasskeyProof>}
 */
export async function prove(digest, ids) {
  const options = {
    challenge: fromHex(digest),
    rpId: location.hostname,
    allowCredentials: ids.map(named),
    userVerification: /** @type {const} */ ("required"),
    timeout: PATIENCE_MS,
  };
  const made = await navigator.credentials.get({ publicKey: options }).catch(refused);
  const key = /** @type {PublicKeyCredential} */ (made);
  const said = /** @type {AuthenticatorAssertionResponse} */ (key.response);
  return {
    kind: "passkey",
    credential: base64(key.rawId),
    client_data: base64(said.clientDataJSON),
    authenticator_data: base64(said.authenticatorData),
    signature: base64(said.signature),
  };
}

/**
 * Make a passkey, and the line with which root enrols it.
 * @param {string} hive   the hive's name
 * @param {readonly Approver[]} approvers   those that are enrolled: no authenticator gets a second one
 * @returns {Promise<{text: string, fingerprint: string}>}
 */
export async function make(hive, approvers) {
  const options = {
    rp: { id: location.hostname, name: `hyperhive ${hive}` },
    user: { id: crypto.getRandomValues(new Uint8Array(HANDLE_BYTES)), name: hive, displayName: `operator of ${hive}` },
    challenge: crypto.getRandomValues(new Uint8Array(32)),
    pubKeyCredParams: [ES256, ED25519].map((alg) => ({ type: /** @type {const} */ ("public-key"), alg })),
    authenticatorSelection: {
      residentKey: /** @type {const} */ ("discouraged"),
      userVerification: /** @type {const} */ ("required"),
    },
    excludeCredentials: credentials(approvers).map(named),
    attestation: /** @type {const} */ ("none"),
    timeout: PATIENCE_MS,
  };
  const made = await navigator.credentials.create({ publicKey: options }).catch(refused);
  const key = /** @type {PublicKeyCredential} */ (made);
  const public_key = /** @type {AuthenticatorAttestationResponse} */ (key.response).getPublicKey();
  if (!public_key) throw new Refusal("failed", "the browser does not say this passkey's public key: use another browser, or an SSH key");
  const hash = await crypto.subtle.digest("SHA-256", public_key);
  return {
    text: enrolmentText({ origin: location.origin, credential: key.rawId, public_key }),
    fingerprint: fingerprint(hash),
  };
}
