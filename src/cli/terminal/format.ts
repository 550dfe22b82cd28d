const bars = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/** The latest numbers as a line of bars, the largest being full; nothing at all is a flat line. */
export function sparkline(numbers: readonly number[], width: number): string {
  const shown = width <= 0 ? [] : numbers.slice(-width);
  const most = Math.max(0, ...shown);
  const drawn = shown.map((number) => {
    if (most <= 0 || number <= 0) return bars[0];
    return bars[Math.min(bars.length - 1, Math.ceil((number / most) * bars.length) - 1)];
  });
  return drawn.join('').padStart(width, ' ');
}

/** `12,345`. */
export function formatInteger(number: number): string {
  return Math.round(number).toLocaleString('en-US');
}

/** A number in few characters: `0`, `0.25`, `7.5`, `123`, `12.3k`, `4.5M`. */
export function formatShort(number: number): string {
  if (number === 0) return '0';
  if (number < 1) return number < 0.01 ? '<0.01' : number.toFixed(2);
  if (number < 9.95) return number.toFixed(1);
  return scale(number, ['', 'k', 'M', 'G', 'T'], '');
}

/** A whole number in few characters: `0`, `999`, `12.3k`. */
export function formatCountShort(count: number): string {
  return scale(count, ['', 'k', 'M', 'G', 'T'], '');
}

/** Bytes in few characters: `512 B`, `1.5 kB`, `12.3 MB`. */
export function formatBytes(bytes: number): string {
  return scale(bytes, ['B', 'kB', 'MB', 'GB', 'TB'], ' ');
}

function scale(number: number, units: readonly string[], space: string): string {
  let value = number;
  let unit = 0;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1_000;
    unit += 1;
  }
  const digits = unit > 0 && value < 99.95 ? 1 : 0;
  return `${value.toFixed(digits)}${space}${units[unit] ?? ''}`;
}

/** A time span in at most five characters: `12s`, `3m05`, `4h12`, `3d04`, `412d`. */
export function formatAge(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1_000));
  if (seconds < 60) return `${seconds}s`;
  if (seconds < 3_600) return `${Math.floor(seconds / 60)}m${two(seconds % 60)}`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 1_440) return `${Math.floor(minutes / 60)}h${two(minutes % 60)}`;
  const hours = Math.floor(minutes / 60);
  return hours < 2_400 ? `${Math.floor(hours / 24)}d${two(hours % 24)}` : `${Math.floor(hours / 24)}d`;
}

function two(number: number): string {
  return String(number).padStart(2, '0');
}

/** A latency: `0.42 ms`, `12.3 ms`, `1.20 s`; `–` when there is none. */
export function formatMs(ms: number | null): string {
  if (ms === null) return '–';
  if (ms >= 1_000) return `${(ms / 1_000).toFixed(2)} s`;
  return `${ms.toFixed(ms < 10 ? 2 : ms < 100 ? 1 : 0)} ms`;
}

/** The time of day of a timestamp, where the operator is. */
export function formatClock(at: string): string {
  const time = new Date(at);
  return [time.getHours(), time.getMinutes(), time.getSeconds()].map(two).join(':');
}
