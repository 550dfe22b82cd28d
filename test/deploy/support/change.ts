/** Sets one place of an object, or removes it when the value is undefined. */
export function put(target: object, path: readonly (string | number)[], value: unknown): void {
  let place = target as Record<string | number, unknown>;
  for (const key of path.slice(0, -1)) place = place[key] as Record<string | number, unknown>;
  const last = path.at(-1) ?? '';
  if (value === undefined) delete place[last];
  else place[last] = value;
}
