import { replaceUnsafe, unicodeEscape } from '../../unsafe-text.js';

/** Text of strangers as it may stand in a page: with no mark that turns the direction of what stands beside it. */
export function shown(text: string): string {
  return replaceUnsafe(text, unicodeEscape);
}

const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat('en', { notation: 'compact', maximumSignificantDigits: 3 });

/** `12,345`. */
export const integer = (number: number): string => whole.format(number);

/** A number in few characters: `0`, `0.25`, `123`, `12.3K`. */
export const brief = (number: number): string => short.format(number);

/** A rate in few characters, the point always in the same place: `0.3`, `12.0`, `12,345`. */
export const perSecond = (rate: number): string => (rate < 1_000 ? rate.toFixed(1) : whole.format(rate));

/** Bytes in few characters: `512 B`, `12.3 MB`. */
export function bytes(number: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  const power = number < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log10(number) / 3));
  return `${(number / 1_000 ** power).toFixed(power === 0 ? 0 : 1)} ${units[power]}`;
}

export const milliseconds = (ms: number | null): string =>
  ms === null ? '–' : `${ms > 0 && ms < 10 ? ms.toFixed(1) : whole.format(ms)} ms`;

/** A time span in few characters: `12 s`, `3 min`, `4 h`, `5 d`. */
export function span(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1_000));
  if (seconds < 120) return `${seconds} s`;
  if (seconds < 7_200) return `${Math.floor(seconds / 60)} min`;
  return seconds < 172_800 ? `${Math.floor(seconds / 3_600)} h` : `${Math.floor(seconds / 86_400)} d`;
}

/** A time of the API in the time zone of who looks: `2026-01-31 13:00:00`. */
export function time(iso: string): string {
  const at = new Date(iso);
  const two = (number: number) => String(number).padStart(2, '0');
  const day = [at.getFullYear(), two(at.getMonth() + 1), two(at.getDate())].join('-');
  return `${day} ${[at.getHours(), at.getMinutes(), at.getSeconds()].map(two).join(':')}`;
}

/** Metadata as `key=value`, one behind the other. */
export const pairs = (metadata: Readonly<Record<string, string>>, gap: string): string =>
  Object.entries(metadata)
    .map(([key, value]) => `${key}=${value}`)
    .join(gap);

/** How long ago a time was. */
export const ago = (iso: string, now: number): string => `${span(now - Date.parse(iso))} ago`;
