/** Numbers that a seed decides, so that a round can be had again. */
export interface Random {
  readonly seed: number;
  /** From 0 to 1, exclusive. */
  next(): number;
  /** A whole number, both ends included. */
  between(least: number, most: number): number;
  pick<T>(of: readonly T[]): T;
}

/** @param seed a whole number; its lowest 32 bits count. */
export function openRandom(seed: number): Random {
  let state = seed >>> 0;
  // Mulberry32: neighbouring seeds have nothing in common.
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  const between = (least: number, most: number): number => least + Math.floor(next() * (most - least + 1));
  return {
    seed: seed >>> 0,
    next,
    between,
    pick: <T>(of: readonly T[]): T => of[between(0, of.length - 1)] as T,
  };
}
