/**
 * Asking webd to do something: JSON, one key per intent, repeated with the same key when the connection was lost, so
 * that a click is neither lost nor done twice.
 */

/**
 * What webd answers: where the effect will have passed, what was made, whether somebody else must act first.
 * @typedef {{seq: string, id?: number, waits?: boolean}} Did
 */

/** Waits between the tries of one intent. */
const RETRY_MS = [400, 1_200, 3_000];
const KEY_BYTES = 16;

/** A no from webd, with its reason. */
export class Refusal extends Error {
  /**
   * @param {string} problem
   * @param {string} detail
   */
  constructor(problem, detail) {
    super(detail || problem);
    this.problem = problem;
  }
}

/** What an intent is known by. 22 characters of base64url. */
export function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(KEY_BYTES));
  return btoa(String.fromCharCode(...bytes))
    .replaceAll("+", "-")
    .replaceAll("/", "_")
    .replace(/=+$/, "");
}

/**
 * @param {string} path
 * @param {Record<string, unknown>} body
 * @returns {Promise<Did>}
 */
export async function post(path, body) {
  for (let tries = 0; ; tries++) {
    const answer = await attempt(path, body);
    if (answer) return answer;
    if (tries === RETRY_MS.length)
      throw new Refusal("away", "webd does not answer; nothing was changed as far as this page knows. try again");
    await new Promise((resume) => setTimeout(resume, RETRY_MS[tries]));
  }
}

/**
 * One try: the answer, null when another try makes sense, a Refusal otherwise.
 * @param {string} path
 * @param {Record<string, unknown>} body
 * @returns {Promise<Did | null>}
 */
async function attempt(path, body) {
  /** @type {Response} */
  let response;
  try {
    response = await fetch(path, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
      credentials: "same-origin",
      cache: "no-store",
    });
  } catch {
    return null; // no answer at all: the same key makes another try safe
  }
  const answer = await response.json().catch(() => null);
  if (response.ok && answer) return answer;
  if (!answer && response.status >= 502 && response.status <= 504) return null;
  if (answer?.problem === "stopping") return null;
  throw new Refusal(answer?.problem ?? "failed", answer?.detail ?? `webd answered ${response.status}`);
}

/**
 * Reading rows. A refusal is thrown, a lost connection too.
 * @param {string} path
 * @returns {Promise<any>}
 */
export async function get(path) {
  const response = await fetch(path, { credentials: "same-origin", cache: "no-store" }).catch(() => {
    throw new Refusal("away", "webd does not answer");
  });
  const answer = await response.json().catch(() => null);
  if (response.ok && answer) return answer;
  throw new Refusal(answer?.problem ?? "failed", answer?.detail ?? `webd answered ${response.status}`);
}
