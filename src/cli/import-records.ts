import { SvcMqttError } from '../errors.js';
import { readCsv } from './csv.js';
import type { InputStream } from './io.js';

/** A row of a file to import: its values by column, and how a message names its columns. */
export interface ImportRecord {
  readonly line: number;
  readonly values: ReadonlyMap<string, unknown>;
  /** What is wrong with the row as a whole. */
  readonly problem?: { readonly column: string; readonly problem: string };
  /** `column 2 (type)` in CSV, `field type` in JSON. */
  nameOf(column: string): string;
}

/** Longest line of JSON, in characters. */
const maxLineLength = 65_536;

/**
 * Reads the rows of CSV with a header, or of JSON lines: which of them it is, the first character tells.
 *
 * @param checkColumn says what is wrong with a column of that name, or undefined.
 * @throws SvcMqttError INPUT_INVALID when the text is none of both, naming the line.
 */
export async function* readRecords(
  input: InputStream,
  checkColumn: (name: string) => string | undefined,
): AsyncGenerator<ImportRecord> {
  const text = decode(input);
  let head = '';
  while (head.trim() === '') {
    const { value, done } = await text.next();
    if (done === true)
      throw new SvcMqttError('INPUT_INVALID', 'There is nothing to import: the input is empty');
    head += value;
  }
  const whole = (async function* () {
    yield head;
    yield* text;
  })();
  if (head.trimStart().startsWith('{')) yield* readJsonLines(whole, checkColumn);
  else yield* readCsvRows(whole, checkColumn);
}

async function* decode(input: InputStream): AsyncGenerator<string> {
  const decoder = new TextDecoder('utf-8', { fatal: true });
  try {
    for await (const chunk of input) yield decoder.decode(Buffer.from(chunk), { stream: true });
    yield decoder.decode();
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    throw new SvcMqttError('INPUT_INVALID', 'The input is not valid UTF-8', {
      suggestion: 'Save the file as UTF-8 and import it again',
      cause: error,
    });
  }
}

async function* readCsvRows(
  text: AsyncIterable<string>,
  checkColumn: (name: string) => string | undefined,
): AsyncGenerator<ImportRecord> {
  let header: string[] | undefined;
  let nameOf = (column: string) => column;
  for await (const { line, cells } of readCsv(text)) {
    if (header === undefined) {
      header = cells.map((cell) => cell.trim());
      const names = header;
      nameOf = (column) =>
        names.includes(column) ? `column ${names.indexOf(column) + 1} (${column})` : column;
      requireHeader(line, names, checkColumn);
      continue;
    }
    const values = new Map(header.map((name, index) => [name, cells[index] ?? '']));
    if (cells.length === header.length) yield { line, values, nameOf };
    else {
      const column = `column ${Math.min(cells.length, header.length) + 1}`;
      const problem = `the row has ${cells.length} cells and the header ${header.length}`;
      yield { line, values, nameOf, problem: { column, problem } };
    }
  }
}

function requireHeader(
  line: number,
  names: readonly string[],
  checkColumn: (name: string) => string | undefined,
): void {
  const suggestion = 'The first line of CSV names the columns; see `svc-mqtt device import --help`';
  // Not repeated: without a header it is a row, whose secret is none of the terminal's business.
  if (names.every((name) => checkColumn(name) !== undefined)) {
    const detail = `Line ${line} names no column; a header such as id,type,secret must come first`;
    throw new SvcMqttError('INPUT_INVALID', detail, { suggestion });
  }
  const problems = names.flatMap((name, index) => {
    const twice = names.indexOf(name) < index ? 'is there twice' : undefined;
    const problem = twice ?? checkColumn(name);
    return problem === undefined ? [] : [`column ${index + 1} (${name.slice(0, 64)}) ${problem}`];
  });
  if (problems.length === 0) return;
  throw new SvcMqttError('INPUT_INVALID', `Line ${line}: ${problems.slice(0, 5).join('; ')}`, { suggestion });
}

async function* readJsonLines(
  text: AsyncIterable<string>,
  checkColumn: (name: string) => string | undefined,
): AsyncGenerator<ImportRecord> {
  let line = 0;
  const nameOf = (column: string) => `field ${column}`;
  for await (const source of linesOf(text)) {
    line += 1;
    if (source.trim() === '') continue;
    const bad = (column: string, problem: string) => ({
      line,
      values: new Map(),
      nameOf,
      problem: { column, problem },
    });
    let value: unknown;
    try {
      value = JSON.parse(source);
    } catch {
      yield bad('column 1', 'the line is not valid JSON');
      continue;
    }
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      yield bad('column 1', 'the line must be a JSON object');
      continue;
    }
    const values = new Map(Object.entries(value));
    const wrong = [...values.keys()].find((name) => checkColumn(name) !== undefined);
    if (wrong === undefined) yield { line, values, nameOf };
    else yield bad(`field ${wrong.slice(0, 64)}`, checkColumn(wrong) ?? '');
  }
}

async function* linesOf(text: AsyncIterable<string>): AsyncGenerator<string> {
  let rest = '';
  let line = 0;
  for await (const chunk of text) {
    const parts = (rest + chunk).split('\n');
    rest = parts.pop() ?? '';
    line += parts.length;
    yield* parts;
    if (rest.length > maxLineLength) {
      throw new SvcMqttError('INPUT_INVALID', `Line ${line + 1} is longer than ${maxLineLength} characters`);
    }
  }
  if (rest !== '') yield rest;
}
