/** Amounts in words: tokens, money, counts. Pure. */

/**
 * `900`, `1.2k`, `21k`, `1.4M`.
 * @param {number} n
 */
export function short(n) {
  if (n < 1_000) return String(n);
  if (n < 9_950) return `${(n / 1_000).toFixed(1)}k`;
  if (n < 999_500) return `${Math.round(n / 1_000)}k`;
  return `${(n / 1_000_000).toFixed(1)}M`;
}

/**
 * `$0.012`; nothing for nothing.
 * @param {number} microusd
 */
export function money(microusd) {
  if (microusd <= 0) return "";
  const usd = microusd / 1_000_000;
  return usd < 0.001 ? "<$0.001" : `$${usd < 1 ? usd.toFixed(3) : usd.toFixed(2)}`;
}

/**
 * `1 message`, `3 messages`.
 * @param {number} n
 * @param {string} one
 * @param {string} [many]
 */
export const count = (n, one, many = `${one}s`) => `${spaced(n)} ${n === 1 ? one : many}`;

/**
 * `10 452`: thousands apart.
 * @param {number} n
 */
export const spaced = (n) => String(n).replace(/\B(?=(\d{3})+$)/g, " ");

/**
 * What a turn used, for its heading: `21k in, 0.9k out, $0.012`.
 * @param {import("../types/wire").Usage | null} usage
 */
export function usage(usage) {
  if (!usage) return "";
  const read = usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens;
  if (!read && !usage.output_tokens) return "";
  return [`${short(read)} in`, `${short(usage.output_tokens)} out`, money(usage.cost_microusd)]
    .filter(Boolean)
    .join(", ");
}

const UNITS = ["KiB", "MiB", "GiB", "TiB"];

/**
 * `812 B`, `4.1 MiB`, `41 GiB`.
 * @param {number} bytes
 */
export function size(bytes) {
  if (bytes < 1_024) return `${bytes} B`;
  let amount = bytes;
  let unit = -1;
  while (amount >= 1_000 && unit < UNITS.length - 1) {
    amount /= 1_024;
    unit += 1;
  }
  return `${amount < 9.95 ? amount.toFixed(1) : Math.round(amount)} ${UNITS[unit]}`;
}
