/** One deployment's log as the page knows it: what was read of it, and what is told of it as it grows. */
import { signal } from "../signals.js";
import { get } from "../act/post.js";
import { merge } from "./rows.js";

/** @import {Build, BuildLine, BuildPage} from "../types/wire" */
/** @import {Signal} from "../vendor/signals-core.js" */

/** @param {BuildLine} line */
const offset = (line) => line.offset;

export class BuildLog {
  /** @param {string} agent @param {number} number */
  constructor(agent, number) {
    this.path = `/api/v1/agents/${agent}/deployments/${number}/log`;
    /** null: not read yet. @type {Signal<BuildLine[] | null>} */
    this.lines = signal(null);
    /** Where older lines end; null: at the start. @type {Signal<number | null>} */
    this.before = signal(null);
    this.fault = signal("");
  }

  /** Read its end. */
  async load() {
    const page = await this.#read("");
    if (!page) return;
    this.lines.value = merge(this.lines.peek() ?? [], page.lines, offset);
    this.before.value = page.before;
  }

  /** Read what stands before. */
  async older() {
    const page = await this.#read(`?before=${this.before.peek()}`);
    if (!page) return;
    this.lines.value = merge(page.lines, this.lines.peek() ?? [], offset);
    this.before.value = page.before;
  }

  /** What is told while it grows; when lines were missed in between, they are read. @param {Build} build */
  take(build) {
    const lines = this.lines.peek();
    if (!lines || !build.lines.length) return;
    const last = lines.at(-1);
    const joins = !last || build.lines.some((line) => line.offset === last.offset) || build.lines[0].offset === 0;
    if (!joins && build.lines[0].offset > last.offset) {
      this.lines.value = [];
      void this.load();
      return;
    }
    this.lines.value = merge(lines, build.lines, offset);
  }

  /** @param {string} query @returns {Promise<BuildPage | null>} */
  async #read(query) {
    try {
      const page = await get(this.path + query);
      this.fault.value = "";
      return page;
    } catch (problem) {
      this.fault.value = /** @type {Error} */ (problem).message;
      return null;
    }
  }
}
