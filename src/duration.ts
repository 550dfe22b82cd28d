const unitMs: Readonly<Record<string, number>> = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** The milliseconds of a duration such as `90s`, `10m`, `2h` or `1d`; undefined when the text is none. */
export function readDurationMs(text: string): number | undefined {
  const [, digits, unit] = /^(\d{1,12})([smhd])$/.exec(text) ?? [];
  return digits === undefined ? undefined : Number(digits) * (unitMs[unit ?? ''] ?? 0);
}
