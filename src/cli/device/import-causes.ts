import { SvcMqttError } from '../../errors.js';
import { escapeControls, formatCount } from '../terminal/text.js';
import type { RefusedRow } from './import-row.js';

/** Most causes that one failure names, and most lines of each. */
const maxCauses = 10;
const maxLines = 3;

/** Gathers why rows are refused: what is wrong with a file as a whole would else be told for each of them. */
export function collectCauses(): { add(row: RefusedRow): void; toError(): SvcMqttError } {
  const causes = new Map<string, { column: string; problem: string; lines: number[] }>();
  let unnamed = 0;
  return {
    add({ line, column, problem }) {
      const key = JSON.stringify([column, problem]);
      const cause = causes.get(key);
      if (cause !== undefined) cause.lines.push(line);
      else if (causes.size < maxCauses) causes.set(key, { column, problem, lines: [line] });
      else unnamed += 1;
    },
    toError() {
      const named = [...causes.values()].map(({ column, problem, lines }) =>
        escapeControls(`${describeLines(lines)}, ${column}: ${problem}`),
      );
      const more = unnamed > 0 ? `; and ${formatCount(unnamed, 'further row')}` : '';
      return new SvcMqttError('INPUT_INVALID', `Nothing was imported: ${named.join('; ')}${more}`, {
        suggestion: 'Correct them, or import the others with --continue --report <file>',
      });
    },
  };
}

/** `line 3`, `lines 3, 4, 5`, `lines 3, 4, 5 and 1,200 more`. */
function describeLines(lines: readonly number[]): string {
  if (lines.length === 1) return `line ${lines[0]}`;
  const more = lines.length - maxLines;
  const rest = more > 0 ? ` and ${more.toLocaleString('en-US')} more` : '';
  return `lines ${lines.slice(0, maxLines).join(', ')}${rest}`;
}
