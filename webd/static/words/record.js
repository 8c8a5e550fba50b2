/** The record of configurations in words: tags with their documents, commits, and addresses of all of them. Pure. */

/** @import {ConfigFile, LogEntry, Mark, RecordDocument, Ref} from "../types/configuration" */

/** What a number has come to: the first of these that it has. */
const FURTHEST = /** @type {const} */ (["deployed", "failed", "denied", "building", "approved", "agreed", "proposal"]);

/** @type {Record<Mark, string>} */
const TONES = { deployed: "ok", failed: "bad", denied: "bad", building: "no", approved: "no", agreed: "no", proposal: "no" };

/** @type {Record<Mark, string>} */
const STANDS = {
  deployed: "deployed",
  failed: "returned",
  denied: "denied",
  building: "being made live",
  approved: "approved, about to be made live",
  agreed: "approved by one key, another must agree",
  proposal: "nothing yet: it waits for a verdict",
};

export const SHA_SHOWN = 10;

/** @param {string} commit */
export const sha = (commit) => commit.slice(0, SHA_SHOWN);

/**
 * A tag as it stands in the list.
 * @typedef {object} Tagged
 * @property {string} name
 * @property {number} number
 * @property {Mark} mark
 * @property {string} tone
 * @property {string} commit
 * @property {RecordDocument} document
 * @property {string[]} others     further tags of the same number
 */

/** Where the record of a generation is. @param {string} agent @param {number} generation */
export const generationAt = (agent, generation) => `/agent/${agent}/config?tag=deployed/${generation}`;

/** The number of a tag's name, `deployed/3`; 0 where there is none. @param {string} [name] */
export const numberOf = (name = "") => Number(name.split("/")[1]) || 0;

/** One row for each number, the newest first. @param {readonly Ref[]} refs @returns {Tagged[]} */
export function numbered(refs) {
  /** @type {Map<number, Tagged[]>} */
  const found = new Map();
  for (const { name, commit, document } of refs) {
    const number = numberOf(name);
    if (!number) continue;
    const tag = { name, number, mark: /** @type {Mark} */ (name.split("/")[0]), commit, document: document ?? {} };
    found.set(tag.number, [...(found.get(tag.number) ?? []), { ...tag, tone: TONES[tag.mark] ?? "", others: [] }]);
  }
  const place = (/** @type {Tagged} */ { mark }) => FURTHEST.indexOf(mark);
  return [...found.values()]
    .map((tags) => tags.sort((one, other) => place(one) - place(other)))
    .map(([first, ...rest]) => ({ ...first, others: rest.map(({ name }) => name) }))
    .sort((one, other) => other.number - one.number);
}

/** What was asked for, wherever the document holds it. @param {Tagged} tag @returns {RecordDocument} */
const askedOf = ({ mark, document }) => (mark === "proposal" ? document : (document.asked ?? {}));

/** How the deployment began. @param {Tagged} tag @returns {RecordDocument} */
const begunOf = ({ mark, document }) => (mark === "building" ? document : (document.begun ?? {}));

/** The operator's word. @param {Tagged} tag @returns {RecordDocument} */
const approvedOf = ({ mark, document }) => (mark === "approved" ? document : (document.approved ?? {}));

/** When it came to what it is. @param {Tagged} tag @returns {number | null} */
export const whenOf = (tag) =>
  tag.document.at_ms ?? begunOf(tag).began_ms ?? askedOf(tag).proposed_ms ?? null;

/** What it was over; null: over nothing, undefined: the tag does not say. @param {Tagged} tag */
export function baseOf(tag) {
  const begun = begunOf(tag).base;
  return begun === undefined ? askedOf(tag).base : begun;
}

/** In a line: what it was for. @param {Tagged} tag */
export function aboutOf(tag) {
  const asked = askedOf(tag);
  const again = begunOf(tag).of;
  return asked.description || (again ? `the content of generation ${again} again` : (begunOf(tag).kind ?? asked.kind ?? ""));
}

/** Whose word it was: `passkey laptop`, `click`. @param {import("../types/configuration").Word} word */
export const wordOf = ({ proof, approver }) => (approver ? `${proof.kind} ${approver.name}` : proof.kind);

/** Everybody who has agreed so far. @param {Tagged} tag */
const wordsOf = (tag) => (tag.document.word ? [tag.document.word] : (approvedOf(tag).words ?? []));

/**
 * What its document says, as terms and values; times stay numbers.
 * @param {Tagged} tag
 * @returns {{term: string, text?: string, ms?: number}[]}
 */
export function factsOf(tag) {
  const asked = askedOf(tag);
  const begun = begunOf(tag);
  const approved = approvedOf(tag);
  const { document, mark } = tag;
  const ended = mark === "deployed" || mark === "failed" || mark === "denied";
  const facts = [
    { term: "came to", text: document.end ?? (document.cancelled ? "cancelled" : STANDS[mark]) },
    { term: "kind", text: begun.kind ?? asked.kind },
    { term: "asked by", text: asked.by },
    { term: "asked", ms: asked.proposed_ms },
    { term: "why", text: asked.description },
    { term: "of generation", text: begun.of ? String(begun.of) : undefined },
    { term: "decided by", text: document.end ? document.by : wordsOf(tag).map(wordOf).join(" and ") },
    { term: "approved", ms: approved.at_ms },
    { term: "begun", ms: begun.began_ms },
    { term: "ended", ms: ended ? document.at_ms : undefined },
    { term: "reason", text: document.reason },
    { term: "expires", ms: mark === "proposal" ? asked.expires_ms : undefined },
  ];
  return facts.filter(({ text, ms }) => text || ms !== undefined);
}

/**
 * What an address opens.
 * @typedef {{tag?: string, commit?: string, before?: string, file?: string}} Place
 */

const COMMIT = /^[0-9a-f]{40}$/;
/** `before` that stands for nothing at all: everything that the commit holds. */
export const NOTHING = "nothing";

/** @param {string} search @returns {Place} */
export function placeOf(search) {
  const query = new URLSearchParams(search);
  const commit = query.get("commit") ?? "";
  const before = query.get("before") ?? "";
  return {
    ...(query.get("tag") && { tag: query.get("tag") ?? "" }),
    ...(COMMIT.test(commit) && { commit }),
    ...((COMMIT.test(before) || before === NOTHING) && { before }),
    ...(query.get("file") && { file: query.get("file") ?? "" }),
  };
}

/** @param {Place} place @returns {string} */
export function addressOf(place) {
  const given = Object.entries(place).filter(([, value]) => value !== undefined);
  const text = new URLSearchParams(/** @type {[string, string][]} */ (given)).toString();
  return text ? `?${text}` : "";
}

/** What a commit can be compared with, the newest first: those of the log, and what tags point at. @param {readonly LogEntry[]} log
 * @param {readonly Tagged[]} tags @returns {{commit: string, label: string}[]} */
export function comparable(log, tags) {
  const seen = new Set();
  const rows = [
    ...tags.map(({ commit, name }) => ({ commit, label: `${name} · ${sha(commit)}` })),
    ...log.map(({ commit, subject }) => ({ commit, label: `${sha(commit)} · ${subject}` })),
  ];
  return rows.filter(({ commit }) => !seen.has(commit) && seen.add(commit));
}

/** Everything that a commit holds, in a few words. @param {readonly ConfigFile[]} files */
export const bytesOf = (files) => files.reduce((sum, { bytes }) => sum + bytes, 0);
