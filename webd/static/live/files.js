/**
 * One agent's own files as the page knows them: the folder that is open, the file that is open, and what all of them take.
 * Nothing is followed: a folder is what it was when it was asked for.
 */
import { batch, signal } from "../signals.js";
import { get } from "../act/post.js";

/** @import {FilePart, StateEntry, StatePage, StateSize} from "../types/wire" */
/** @import {Signal} from "../vendor/signals-core.js" */

/** Parts of a file that the page holds at once; a longer one is for downloading. */
export const PARTS_MAX = 4;

/**
 * @typedef {object} Folder
 * @property {string} path
 * @property {StateEntry[] | null} entries   null: not told yet
 * @property {string | null} after           where the next page begins
 * @property {string} fault
 *
 * @typedef {object} Opened
 * @property {string} path
 * @property {FilePart[]} parts
 * @property {string} fault
 */

/** @param {Record<string, string>} fields */
const query = (fields) => new URLSearchParams(fields).toString();

/** @param {unknown} problem */
const words = (problem) => /** @type {Error} */ (problem).message;

export class Files {
  /** @param {string} agent */
  constructor(agent) {
    this.agent = agent;
    /** @type {Signal<Folder>} */
    this.folder = signal({ path: "", entries: null, after: null, fault: "" });
    /** @type {Signal<Opened | null>} */
    this.opened = signal(null);
    /** @type {Signal<StateSize | null>} */
    this.size = signal(null);
  }

  /** What the address says is open. @param {string} folder @param {string | null} file */
  show(folder, file) {
    if (this.folder.peek().entries === null || this.folder.peek().path !== folder) void this.list(folder);
    if (file === null) this.opened.value = null;
    else if (this.opened.peek()?.path !== file) void this.open(file);
  }

  /** @param {string} path */
  async list(path) {
    const asked = { path, entries: null, after: null, fault: "" };
    this.folder.value = asked;
    await this.#listed(asked);
  }

  /** The next page of the folder. */
  async more() {
    const before = this.folder.peek();
    await this.#listed(before);
  }

  /** @param {Folder} asked   an answer that comes when something else is open is dropped */
  async #listed(asked) {
    let next;
    try {
      /** @type {StatePage} */
      const page = await get(
        `/api/v1/agents/${this.agent}/files?${query({ path: asked.path, after: asked.after ?? "" })}`,
      );
      next = { ...asked, entries: [...(asked.entries ?? []), ...page.entries], after: page.after, fault: "" };
    } catch (problem) {
      next = { ...asked, fault: words(problem) };
    }
    if (this.folder.peek() === asked) this.folder.value = next;
  }

  /** @param {string} path */
  async open(path) {
    const asked = { path, parts: [], fault: "" };
    this.opened.value = asked;
    await this.#read(asked, 0);
  }

  /** The next part of the open file. */
  async further() {
    const now = this.opened.peek();
    const next = now?.parts.at(-1)?.next;
    if (now && next) await this.#read(now, next);
  }

  /** @param {Opened} asked @param {number} offset */
  async #read(asked, offset) {
    let next;
    try {
      /** @type {FilePart} */
      const part = await get(
        `/api/state-file?${query({ agent: this.agent, path: asked.path, offset: String(offset) })}`,
      );
      next = { ...asked, parts: [...asked.parts, part] };
    } catch (problem) {
      next = { ...asked, fault: words(problem) };
    }
    if (this.opened.peek() === asked) this.opened.value = next;
  }

  /** How much all of it takes; it is not shown where it cannot be counted. */
  async measure() {
    this.size.value = await get(`/api/v1/agents/${this.agent}/size`).catch(() => null);
  }

  /** Everything anew. */
  refresh() {
    const { path } = this.folder.peek();
    const file = this.opened.peek()?.path ?? null;
    batch(() => {
      void this.list(path);
      if (file !== null) void this.open(file);
    });
    void this.measure();
  }

  /** @param {string} path */
  download(path) {
    return `/api/v1/agents/${this.agent}/download?${query({ path })}`;
  }
}

/** Below a folder: `notes` and `a.md` are `notes/a.md`. @param {string} folder @param {string} name */
export const below = (folder, name) => (folder ? `${folder}/${name}` : name);

/** The folder that a path lies in. @param {string} path */
export const folderOf = (path) => path.slice(0, Math.max(0, path.lastIndexOf("/")));

/** Every folder on the way to a path, the outermost first. @param {string} path */
export function trail(path) {
  const parts = path ? path.split("/") : [];
  return parts.map((name, i) => ({ name, path: parts.slice(0, i + 1).join("/") }));
}

/** In words: `41 MiB in 112 files`, `more than 41 MiB …` where the counting was given up. @param {StateSize} size
 * @param {(bytes: number) => string} sized @param {(n: number, one: string) => string} counted */
export const sizeWords = ({ bytes, files, complete }, sized, counted) =>
  `${complete ? "" : "more than "}${sized(bytes)} in ${counted(files, "file")}`;
