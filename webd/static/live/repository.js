/**
 * A repository of configurations as the page knows it: its tags and newest commits, and what is open of it. Read only; it is
 * what it was when it was asked for.
 */
import { batch, signal } from "../signals.js";
import { get } from "../act/post.js";
import { baseOf, NOTHING, numbered, numberOf } from "../words/record.js";

/** @import {ConfigFile, ConfigText, FileDiff, LogEntry, Ref, Repository as Record} from "../types/configuration" */
/** @import {Place, Tagged} from "../words/record.js" */
/** @import {Signal} from "../vendor/signals-core.js" */

/** @param {unknown} problem */
const words = (problem) => /** @type {Error} */ (problem).message;

/**
 * What is open: a commit (perhaps by one of its tags) compared with another one, or one of its files.
 * @typedef {object} Opened
 * @property {Place} place
 * @property {Tagged | null} tag
 * @property {string} commit
 * @property {string | null} before         what it is compared with; null: with nothing
 * @property {FileDiff[] | null} diff       null: not told yet
 * @property {ConfigFile[] | null} files
 * @property {ConfigText | null} text       of the file that is open
 * @property {string} fault
 */

/** @template {Record} R */
export class Repository {
  /**
   * @param {string} whole   where all of it is told
   * @param {string} parts   below which its parts are
   */
  constructor(whole, parts) {
    this.whole = whole;
    this.parts = parts;
    /** @type {Signal<R | null>} */
    this.record = signal(null);
    /** @type {Signal<Tagged[]>} */
    this.tags = signal([]);
    this.fault = signal("");
    /** Whether the log goes on behind what is shown. */
    this.more = signal(false);
    /** Tags of older numbers that were asked for, and whether there may be more of them. @type {Signal<{refs: Ref[], more: boolean}>} */
    this.older = signal({ refs: [], more: false });
    /** @type {Signal<Opened | null>} */
    this.opened = signal(null);
  }

  /**
   * All of it anew, and what the address says is open. What is open already is drawn again only if its number has come
   * further meanwhile.
   * @param {Place} place
   */
  async load(place) {
    try {
      /** @type {R} */
      const record = await get(this.whole);
      batch(() => {
        this.record.value = record;
        this.older.value = { refs: [], more: goesOn(record.refs) };
        this.tags.value = numbered(record.refs);
        this.more.value = record.log.length >= LOG_ROWS;
        this.fault.value = "";
      });
      const wanted = numberOf(place.tag);
      if (wanted && wanted < lowest(record.refs)) await this.earlier(wanted + 1);
    } catch (problem) {
      this.fault.value = words(problem);
      return;
    }
    const now = this.opened.peek();
    if (!now || now.fault || this.#tagged(place)?.name !== now.tag?.name) this.show(place);
  }

  /** Tags of older numbers. @param {number} [before]   below which; without, below those that are there */
  async earlier(before) {
    const { refs } = this.older.peek();
    const all = [...(this.record.peek()?.refs ?? []), ...refs];
    try {
      /** @type {Ref[]} */
      const found = await this.#get("refs", { before: String(before ?? lowest(all)) });
      batch(() => {
        this.older.value = { refs: [...refs, ...found], more: goesOn(found) };
        this.tags.value = numbered([...all, ...found]);
      });
    } catch (problem) {
      this.fault.value = words(problem);
    }
  }

  /** The tag of a place: what its number has come to by now. @param {Place} place */
  #tagged({ tag }) {
    const wanted = numberOf(tag);
    return this.tags.peek().find(({ number }) => number === wanted) ?? null;
  }

  /** @param {Place} place */
  show(place) {
    const tag = this.#tagged(place);
    const commit = place.commit ?? tag?.commit;
    if (!commit) {
      this.opened.value = null;
      if (place.tag) this.fault.value = `nothing is recorded of ${place.tag}`;
      return;
    }
    /** @type {Opened} */
    const asked = { place, tag, commit, before: null, diff: null, files: null, text: null, fault: "" };
    this.opened.value = asked;
    void this.#opened(asked);
  }

  /** @param {Opened} asked   an answer that comes when something else is open is dropped */
  async #opened(asked) {
    let next;
    try {
      next = asked.place.file !== undefined ? await this.#file(asked, asked.place.file) : await this.#commit(asked);
    } catch (problem) {
      next = { ...asked, fault: words(problem) };
    }
    if (this.opened.peek() === asked) this.opened.value = next;
  }

  /** @param {Opened} asked @param {string} path @returns {Promise<Opened>} */
  async #file(asked, path) {
    return { ...asked, text: await this.#get("file", { commit: asked.commit, path }) };
  }

  /** @param {Opened} asked @returns {Promise<Opened>} */
  async #commit(asked) {
    const { commit } = asked;
    const before = await this.#before(asked);
    const [diff, files] = await Promise.all([
      this.#get("diff", before === null ? { commit } : { commit, before }),
      this.#get("files", { commit }),
    ]);
    return { ...asked, before, diff, files };
  }

  /** What a commit is compared with: what was asked for, what it was proposed over, or the commit before it. @param {Opened} asked */
  async #before({ place, tag, commit }) {
    if (place.before !== undefined) return place.before === NOTHING ? null : place.before;
    const base = tag && baseOf(tag);
    if (base !== undefined && base !== null) return base;
    if (tag) return null;
    /** @type {LogEntry[]} */
    const log = await this.#get("log", { commit, limit: "2" });
    return log[1]?.commit ?? null;
  }

  /** Older commits. */
  async further() {
    const record = this.record.peek();
    const last = record?.log.at(-1);
    if (!record || !last) return;
    try {
      /** @type {LogEntry[]} */
      const [, ...older] = await this.#get("log", { commit: last.commit, limit: String(LOG_ROWS + 1) });
      batch(() => {
        this.record.value = { ...record, log: [...record.log, ...older] };
        this.more.value = older.length >= LOG_ROWS;
      });
    } catch (problem) {
      this.fault.value = words(problem);
    }
  }

  /** @param {string} what @param {{[name: string]: string}} fields @returns {Promise<any>} */
  #get(what, fields) {
    return get(`${this.parts}/${what}?${new URLSearchParams(fields)}`);
  }
}

/** The lowest number among tags. @param {readonly Ref[]} refs */
const lowest = (refs) => Math.min(...refs.map(({ name }) => numberOf(name) || Number.POSITIVE_INFINITY));

/** Whether there may be tags of older numbers. @param {readonly Ref[]} refs */
const goesOn = (refs) => Number.isFinite(lowest(refs)) && lowest(refs) > 1;

/** Commits that webd tells at once. */
const LOG_ROWS = 50;

/** @param {string} agent @returns {Repository<Record>} */
export const repositoryOf = (agent) => new Repository(`/api/agent-config/${agent}`, `/api/v1/agents/${agent}/config`);

/** @returns {Repository<import("../types/configuration").MetaRepository>} */
export const metaRepository = () => new Repository("/api/v1/meta", "/api/v1/meta");
