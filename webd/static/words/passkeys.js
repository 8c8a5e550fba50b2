/** Passkeys in words and bytes: whether one can be used at this address, and the line that enrols it. Pure. */

/** @import {Approver, ApproverKey} from "../types/configuration" */

const LOOPBACK = /^(127(\.\d+){3}|\[::1\])$/;
const ADDRESS = /^(\d+(\.\d+){3}|\[.*\])$/;

/**
 * Why no passkey can be used here, and where it can; null when nothing is in the way. A passkey belongs to a name, never to
 * an address of numbers, and browsers offer it on https and on localhost alone.
 * @param {{protocol: string, hostname: string, port: string, pathname: string}} place
 * @param {boolean} known   whether the browser knows passkeys
 * @returns {{why: string, instead: string | null} | null}
 */
export function obstacle({ protocol, hostname, port, pathname }, known) {
  if (LOOPBACK.test(hostname)) {
    const instead = `${protocol}//localhost${port && `:${port}`}${pathname}`;
    return { why: "a passkey belongs to a name, and this page was opened by its address of numbers", instead };
  }
  if (ADDRESS.test(hostname)) return { why: "a passkey belongs to a name: reach the dashboard by one, over https", instead: null };
  if (protocol !== "https:" && hostname !== "localhost")
    return { why: "browsers offer passkeys over https, or at localhost through `ssh -L`", instead: null };
  return known ? null : { why: "this browser knows no passkeys", instead: null };
}

/** @param {ArrayBuffer | Uint8Array} bytes */
export const base64 = (bytes) => btoa(String.fromCharCode(...new Uint8Array(bytes)));

/** @param {string} text @returns {Uint8Array<ArrayBuffer>} */
export const fromBase64 = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

/** @param {string} digits */
export const fromHex = (digits) =>
  Uint8Array.from(digits.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));

/**
 * The line that root pastes after `hivectl enrol NAME --passkey`: base64url of JSON.
 * @param {{origin: string, credential: ArrayBuffer, public_key: ArrayBuffer}} made
 */
export function enrolmentText({ origin, credential, public_key }) {
  const document = { v: 1, origin, credential: base64(credential), public_key: base64(public_key) };
  return btoa(JSON.stringify(document)).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}

/** `SHA256:` and the hash, as root's terminal prints it. @param {ArrayBuffer} hash */
export const fingerprint = (hash) => `SHA256:${base64(hash).replace(/=+$/, "")}`;

/** What a key may be called. @param {string} name */
export const nameFault = (name) =>
  /^[a-z0-9][a-z0-9._-]{0,31}$/.test(name)
    ? ""
    : "lower-case letters, digits, dots, dashes; 32 at most, a letter or a digit first";

/** @param {ApproverKey} key */
export const keyWords = (key) => (key.kind === "passkey" ? "passkey" : (key.line.split(" ")[0] ?? "ssh"));

/** Of the keys that may decide, the passkeys. @param {readonly Approver[]} approvers @returns {string[]} */
export const credentials = (approvers) =>
  approvers.flatMap(({ key, revoked_ms }) => (key.kind === "passkey" && revoked_ms === null ? [key.credential] : []));
