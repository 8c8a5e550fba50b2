/** What holds agents back, in words: windows of model accounts, refusals of the way out, limits of cages. Pure. */
import { size, spaced } from "./amounts.js";
import { until } from "./times.js";

/** @import {AccountWindow, CageLimits, EgressRefusal, LimitHit} from "../types/wire" */
/** @import {Zone} from "./times.js" */

const MIB = 1_024 * 1_024;

/**
 * `tokens: 0 of 80 000, anew 15:20`; `5h: 97 % used`.
 * @param {AccountWindow} window
 * @param {number} now_ms
 * @param {Zone} zone
 */
export function windowWords({ name, limit, remaining, used_permille, resets_ms }, now_ms, zone) {
  const left =
    remaining === null ? "" : limit === null ? `${spaced(remaining)} left` : `${spaced(remaining)} of ${spaced(limit)}`;
  const used = used_permille === null ? "" : `${Math.round(used_permille / 10)} % used`;
  const anew = resets_ms === null || resets_ms <= now_ms ? "" : `anew ${until(resets_ms, now_ms, zone)}`;
  const said = [left || used, anew].filter(Boolean).join(", ");
  return said ? `${name}: ${said}` : name;
}

/** @type {Record<EgressRefusal["why"], string>} */
const WHY = {
  not_allowed: "not in its settings",
  leads_inside: "leads inside",
  malformed: "not understood",
  connections: "too many at once",
  volume: "hour's bytes used up",
  model_path: "not for the model API",
};

/** Why somebody was turned away. @param {EgressRefusal["why"]} why */
export const whyWords = (why) => WHY[why] ?? why.replaceAll("_", " ");

/** `example.org:443`; `many places`, where they are not told apart any more. @param {EgressRefusal} refusal */
export const destination = ({ host, port }) => (host ? `${host}:${port}` : "many places");

/** @type {Record<LimitHit["resource"], string>} */
const OUT_OF = { memory: "ran out of memory", tasks: "ran out of processes", disk: "filled its disk" };

/** `ran out of memory`. @param {LimitHit} hit */
export const hitWords = ({ resource }) => OUT_OF[resource] ?? `met its limit of ${resource}`;

/**
 * What a cage may use, one line each: what, how much, and what is counted when it is met.
 * @param {CageLimits} limits
 * @returns {[string, string, LimitHit["resource"] | ""][]}
 */
export function limitLines(limits) {
  const given = /** @type {[string, number | null, (n: number) => string, LimitHit["resource"] | ""][]} */ ([
    ["memory", limits.memory_mib_max, (mib) => size(mib * MIB), "memory"],
    ["processes", limits.tasks_max, spaced, "tasks"],
    ["cpu", limits.cpu_percent_max, (percent) => `${spaced(percent)} %`, ""],
    ["open files", limits.files_max, (n) => `${spaced(n)} each`, ""],
    ["disk", limits.disk_mib_max, (mib) => size(mib * MIB), "disk"],
  ]);
  return given.map(([name, most, words, resource]) => [name, most === null ? "as the host has" : words(most), resource]);
}
