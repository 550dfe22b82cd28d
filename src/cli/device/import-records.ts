import { SvcMqttError } from '../../errors.js';
import type { InputStream } from '../terminal/io.js';
import { formatCount } from '../terminal/text.js';
import { readCsv } from './csv.js';

/** A row of a file to import: its values by column, and how a message names its columns. */
export interface ImportRecord {
  readonly line: number;
  readonly values: ReadonlyMap<string, unknown>;
  /** What is wrong with the row as a whole. */
  readonly problem?: { readonly column: string; readonly problem: string };
  /** `column 2 (type)` in CSV, `field type` in JSON. */
  nameOf(column: string): string;
}

/** Longest line of JSON, longest object of an array and longest first line of CSV, in characters. */
const maxLength = 65_536;

/**
 * Reads the rows of CSV with a header, of JSON lines, or of an array of JSON objects: which of them it is, the first
 * characters tell.
 *
 * @param checkColumn says what is wrong with a column of that name, or undefined.
 * @throws SvcMqttError INPUT_INVALID when the text is none of them, naming the line.
 */
export async function* readRecords(
  input: InputStream,
  checkColumn: (name: string) => string | undefined,
): AsyncGenerator<ImportRecord> {
  const text = decode(input);
  let head = '';
  let ended = false;
  while (!ended && head.length < maxLength && !head.trimStart().includes('\n')) {
    const { value, done } = await text.next();
    ended = done === true;
    head += value ?? '';
  }
  const firstLine = /^[^\r\n]*/.exec(head.trimStart())?.[0] ?? '';
  if (firstLine === '')
    throw new SvcMqttError('INPUT_INVALID', 'There is nothing to import: the input is empty');
  const whole = (async function* () {
    yield head;
    yield* text;
  })();
  // An object that goes over several lines, as tools print it, begins with a bare brace.
  if (firstLine.startsWith('[') || /^\{\s*$/.test(firstLine)) yield* readJson(objectsOf(whole), checkColumn);
  else if (firstLine.startsWith('{')) yield* readJson(linesOf(whole), checkColumn);
  else yield* readCsvRows(whole, firstLine, checkColumn);
}

/** The name of a column as it is written here: `ID`, ` Created At` and `METADATA.Rack` are id, created_at, metadata.Rack. */
function toColumnName(written: string): string {
  const [, key] = /^metadata\.(.*)$/is.exec(written.trim()) ?? [];
  return key === undefined ? written.trim().toLowerCase().replace(/[ -]+/g, '_') : `metadata.${key}`;
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
  firstLine: string,
  checkColumn: (name: string) => string | undefined,
): AsyncGenerator<ImportRecord> {
  // What spreadsheets put before the header to name the delimiter.
  const [, named] = /^"?sep=(.)"?\s*$/i.exec(firstLine) ?? [];
  const delimiter = named ?? findDelimiter(firstLine, checkColumn);
  let skips = named !== undefined;
  let header: string[] | undefined;
  let nameOf = (column: string) => column;
  for await (const { line, cells } of readCsv(text, delimiter)) {
    if (skips) {
      skips = false;
      continue;
    }
    if (header === undefined) {
      header = cells.map(toColumnName);
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
      const problem = `the row has ${formatCount(cells.length, 'cell')} and the header ${header.length}`;
      yield { line, values, nameOf, problem: { column, problem } };
    }
  }
}

/** The delimiter by which a header names most columns; a comma when none names any. */
function findDelimiter(header: string, checkColumn: (name: string) => string | undefined): string {
  const counts = [',', ';', '\t'].map((delimiter) => {
    const names = header.split(delimiter).map((cell) => toColumnName(cell.replace(/^\s*"|"\s*$/g, '')));
    return { delimiter, named: names.filter((name) => checkColumn(name) === undefined).length };
  });
  return counts.reduce((best, each) => (each.named > best.named ? each : best)).delimiter;
}

function requireHeader(
  line: number,
  names: readonly string[],
  checkColumn: (name: string) => string | undefined,
): void {
  const suggestion = 'The first line of CSV names the columns; see `svc-mqtt device import --help`';
  // Not repeated: without a header it is a row, whose secret is none of the terminal's business.
  if (names.every((name) => checkColumn(name) !== undefined)) {
    const detail = `Line ${line} names no column; a header such as id,type,secret must come first, parted by commas, semicolons or tabs`;
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

/** A piece of the input that should be one JSON object. */
interface JsonSource {
  readonly line: number;
  readonly source: string;
}

async function* readJson(
  sources: AsyncIterable<JsonSource>,
  checkColumn: (name: string) => string | undefined,
): AsyncGenerator<ImportRecord> {
  const nameOf = (column: string) => `field ${column}`;
  for await (const { line, source } of sources) {
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
      yield bad('column 1', 'what begins there is not valid JSON');
      continue;
    }
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      yield bad('column 1', 'the line must be a JSON object');
      continue;
    }
    const fields = Object.entries(value).map(([name, field]) => [toColumnName(name), field] as const);
    const values = new Map(fields);
    const wrong = fields.find(([name]) => checkColumn(name) !== undefined)?.[0];
    if (wrong !== undefined) yield bad(`field ${wrong.slice(0, 64)}`, checkColumn(wrong) ?? '');
    else if (values.size < fields.length) yield bad('column 1', 'a field is there twice');
    else yield { line, values, nameOf };
  }
}

async function* linesOf(text: AsyncIterable<string>): AsyncGenerator<JsonSource> {
  let rest = '';
  let line = 0;
  for await (const chunk of text) {
    const parts = (rest + chunk).split('\n');
    rest = parts.pop() ?? '';
    for (const source of parts) {
      line += 1;
      if (source.trim() !== '') yield { line, source };
    }
    if (rest.length > maxLength) throw tooLong(line + 1);
  }
  if (rest.trim() !== '') yield { line: line + 1, source: rest };
}

/**
 * The objects of an array, or objects that follow one another, however they are laid out, one at a time: only braces,
 * quotes and what is between the objects are looked at.
 *
 * @throws SvcMqttError INPUT_INVALID when something else is between them, or the text ends within one.
 */
async function* objectsOf(text: AsyncIterable<string>): AsyncGenerator<JsonSource> {
  const state = { line: 1, depth: 0, quoted: false, escaped: false, array: false, ended: false };
  let begun = 1;
  let source = '';
  for await (const chunk of text) {
    let from = 0;
    for (let at = 0; at < chunk.length; at += 1) {
      const character = chunk[at] ?? '';
      if (character === '\n') state.line += 1;
      if (state.depth > 0) {
        if (!step(state, character)) continue;
        yield { line: begun, source: source + chunk.slice(from, at + 1) };
        source = '';
      } else if (character === '{' && !state.ended) {
        state.depth = 1;
        begun = state.line;
        from = at;
      } else if (character === '[' && !state.array) state.array = true;
      else if (character === ']' && state.array && !state.ended) state.ended = true;
      else if (!/[\s,]/.test(character)) throw noObject(state.line);
    }
    if (state.depth > 0) source += chunk.slice(from);
    if (source.length > maxLength) throw tooLong(begun);
  }
  if (state.depth > 0 || (state.array && !state.ended)) {
    throw new SvcMqttError('INPUT_INVALID', `The JSON that begins on line ${begun} does not end`);
  }
}

/** Takes one character within an object; true when the object ends with it. */
function step(state: { depth: number; quoted: boolean; escaped: boolean }, character: string): boolean {
  if (state.escaped) state.escaped = false;
  else if (state.quoted && character === '\\') state.escaped = true;
  else if (character === '"') state.quoted = !state.quoted;
  else if (!state.quoted && character === '{') state.depth += 1;
  else if (!state.quoted && character === '}') state.depth -= 1;
  return state.depth === 0;
}

function noObject(line: number): SvcMqttError {
  return new SvcMqttError(
    'INPUT_INVALID',
    `Line ${line}: something other than JSON objects is in the array`,
    {
      suggestion: 'Each device is an object, such as {"id":"roof-7","type":"sensor"}',
    },
  );
}

function tooLong(line: number): SvcMqttError {
  return new SvcMqttError('INPUT_INVALID', `Line ${line} is longer than ${maxLength} characters`);
}
