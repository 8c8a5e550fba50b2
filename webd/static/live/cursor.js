/** Cursors of the stream, `epoch-seq`: reading and comparing them, nothing else. */

/**
 * @param {string} cursor
 * @returns {{epoch: string, seq: number} | null}
 */
export function parse(cursor) {
  const found = /^([0-9a-f]+)-(\d+)$/.exec(cursor);
  return found ? { epoch: found[1], seq: Number(found[2]) } : null;
}

/**
 * Whether a stream that stands at `at` has shown everything up to `wanted`.
 * Another epoch means that webd began anew: its snapshot shows all there is.
 * @param {string} at
 * @param {string} wanted
 */
export function passed(at, wanted) {
  const here = parse(at);
  const there = parse(wanted);
  if (!here || !there || here.epoch !== there.epoch) return true;
  return here.seq >= there.seq;
}
