import { describeSchema, flagForms, settingEntries } from '../../config.js';
import { isBoolean, wordsOf } from '../command/setting-options.js';
import { escapeCell } from '../reference/cli-reference.js';

type Entry = (typeof settingEntries)[number][1];

const start = '<!-- config:start -->';
const end = '<!-- config:end -->';

const secretNote =
  'A secret, or a URL with a password, may stand in a file instead, which a variable with `_FILE` appended names, such as `API_TOKEN_FILE`.';

/** The settings as a Markdown table: variable, option, default, and what it is and accepts. */
export function renderConfigTable(): string {
  const rows = settingEntries.map(([, entry]) => [
    entry.env.map(code).join(', '),
    flagsOf(entry).map(code).join(', '),
    entry.default === undefined ? '' : code(String(entry.default)),
    escapeCell(`${entry.help}${limitOf(entry)}`),
  ]);
  const header = ['Variable', 'Option', 'Default', 'What it is'];
  return [header, header.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n');
}

/**
 * Puts the table between its markers in a document.
 *
 * @throws Error when the document does not have the two markers, once each and in order.
 */
export function replaceConfigTable(markdown: string): string {
  const [before, rest, ...excess] = markdown.split(start);
  const [, after, ...excessEnds] = (rest ?? '').split(end);
  if (before === undefined || after === undefined || excess.length > 0 || excessEnds.length > 0) {
    throw new Error(`the document must have ${start} and ${end}, once each and in order`);
  }
  return `${before}${start}\n\n${renderConfigTable()}\n\n${secretNote}\n\n${end}${after}`;
}

function flagsOf(entry: Entry): string[] {
  if (isBoolean(entry)) return [entry.default === true ? `--no-${entry.flag}` : `--${entry.flag}`];
  const { value, file } = flagForms(entry);
  return [...(value ? [`--${entry.flag}`] : []), ...(file ? [`--${entry.flag}-file`] : [])];
}

/** Ranges and formats; words and booleans are in the help already. */
function limitOf(entry: Entry): string {
  const { schema } = entry;
  const words = wordsOf(entry);
  if (words.length > 0)
    return words.every((word) => entry.help.includes(word)) ? '' : ` (${words.join(', ')})`;
  const isBounded =
    schema.type === 'string' &&
    schema.enum === undefined &&
    schema.pattern === undefined &&
    schema.maxLength !== undefined;
  if (schema.type !== 'integer' && !isBounded) return '';
  return ` (${describeSchema(schema).replace(/^(a whole number from|text of) /, '')})`;
}

function code(text: string): string {
  return `\`${text}\``;
}
