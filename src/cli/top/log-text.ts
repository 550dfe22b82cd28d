import { formatClock } from '../terminal/format.js';

const levels: Readonly<Record<number, string>> = {
  10: 'trace',
  20: 'debug',
  30: 'info',
  40: 'WARN',
  50: 'ERROR',
  60: 'FATAL',
};
/** Fields that say which device, which file, why: worth their room on the screen. */
const shownFields = ['device', 'client', 'address', 'reason', 'detail'];

/** A line of the log for people. What is no JSON is shown as it is. */
export function toLogText(line: string): string {
  let fields: Record<string, unknown>;
  try {
    fields = JSON.parse(line) as Record<string, unknown>;
  } catch {
    return line;
  }
  const { time, level, event, msg } = fields;
  const more = shownFields.flatMap((name) =>
    fields[name] === undefined ? [] : [`${name}=${String(fields[name])}`],
  );
  const word = levels[Number(level)] ?? String(level);
  return [formatClock(String(time)), word.padEnd(5), String(event ?? ''), String(msg ?? ''), ...more].join(
    '  ',
  );
}
