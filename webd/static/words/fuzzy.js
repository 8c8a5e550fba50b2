/** Finding things by a few of their letters, for the palette. Pure. */

/**
 * How well `query` fits `text` (higher is better), and which letters matched; null when it does not fit.
 * Letters must appear in order; starts of words and unbroken runs count more.
 * @param {string} query
 * @param {string} text
 * @returns {{score: number, at: number[]} | null}
 */
export function fit(query, text) {
  const wanted = query.toLowerCase().replace(/\s+/g, "");
  const letters = text.toLowerCase();
  /** @type {number[]} */
  const at = [];
  let score = 0;
  let from = 0;
  const whole = letters.indexOf(wanted);
  if (wanted && whole >= 0) {
    const start = whole === 0 || letters[whole - 1] === " ";
    return { score: 100 + (start ? 50 : 0) - whole - text.length / 100, at: Array.from(wanted, (_, i) => whole + i) };
  }
  for (const letter of wanted) {
    const found = letters.indexOf(letter, from);
    if (found < 0) return null;
    if (found === 0 || letters[found - 1] === " ") score += 8;
    else if (at.length && found === at[at.length - 1] + 1) score += 5;
    else score -= Math.min(found - from, 5);
    at.push(found);
    from = found + 1;
  }
  return { score: score - text.length / 100, at };
}

/**
 * Text cut into pieces for showing: even ones plain, odd ones matched.
 * @param {string} text
 * @param {readonly number[]} at
 * @returns {string[]}
 */
export function marked(text, at) {
  /** @type {string[]} */
  const pieces = [""];
  const hit = new Set(at);
  for (let i = 0; i < text.length; i++) {
    const odd = pieces.length % 2 === 0;
    if (hit.has(i) !== odd) pieces.push("");
    pieces[pieces.length - 1] += text[i];
  }
  return pieces;
}
