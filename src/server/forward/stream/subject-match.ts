/** Whether every subject that `narrow` matches is matched by `wide` too; both may hold `*` and `>`. */
export function covers(wide: string, narrow: string): boolean {
  const wides = wide.split('.');
  const narrows = narrow.split('.');
  for (const [index, token] of wides.entries()) {
    const other = narrows[index];
    if (other === undefined) return false;
    if (token === '>') return true;
    if (other === '>') return false;
    if (token !== '*' && token !== other) return false;
  }
  return wides.length === narrows.length;
}

/** Whether there is a subject that both match. */
export function overlap(one: string, other: string): boolean {
  const ones = one.split('.');
  const others = other.split('.');
  const common = Math.min(ones.length, others.length);
  for (let index = 0; index < common; index += 1) {
    const left = ones[index];
    const right = others[index];
    if (left === '>' || right === '>') return true;
    if (left !== right && left !== '*' && right !== '*') return false;
  }
  return ones.length === others.length;
}
