import { Readable } from 'node:stream';
import { CsvError, parse } from 'csv-parse';
import { stringify } from 'csv-stringify/sync';
import { SvcMqttError } from '../../errors.js';

/** A record of a CSV text, with the line on which it begins. */
export interface CsvRecord {
  readonly line: number;
  readonly cells: readonly string[];
}

/** Longest record, in characters: what is longer lacks a closing quote. */
const maxRecordLength = 65_536;

/**
 * Reads CSV (RFC 4180), a record at a time. Empty lines are left out.
 *
 * @throws SvcMqttError INPUT_INVALID naming the line, when the quotes are wrong.
 */
export async function* readCsv(text: AsyncIterable<string>, delimiter = ','): AsyncGenerator<CsvRecord> {
  const parser = parse({
    info: true,
    delimiter,
    relax_column_count: true,
    max_record_size: maxRecordLength,
  });
  const source = Readable.from(normalizeLineEnds(text));
  // A failure of the source must reach who reads the parser, which a pipe alone does not see to.
  source.on('error', (error) => parser.destroy(error));
  source.pipe(parser);
  let lastLine = 0;
  try {
    for await (const { info, record } of parser as AsyncIterable<{
      info: { lines: number };
      record: string[];
    }>) {
      const line = lastLine + 1;
      lastLine = info.lines;
      if (record.length > 1 || record[0] !== '') yield { line, cells: record.map(unprotectFormula) };
    }
  } catch (error) {
    if (!(error instanceof CsvError)) throw error;
    const { lines } = error as CsvError & { lines?: number };
    throw new SvcMqttError('INPUT_INVALID', `Line ${lines ?? lastLine + 1}: ${describe(error)}`, {
      suggestion: 'Nothing behind it can be read',
      cause: error,
    });
  } finally {
    source.destroy();
  }
}

/** The parser counts CR LF within quotes as two line ends. */
async function* normalizeLineEnds(text: AsyncIterable<string>): AsyncGenerator<string> {
  let held = '';
  for await (const chunk of text) {
    const whole = held + chunk;
    held = whole.endsWith('\r') ? '\r' : '';
    yield whole.slice(0, whole.length - held.length).replaceAll('\r\n', '\n');
  }
  if (held !== '') yield held;
}

function describe(error: CsvError): string {
  if (error.code === 'CSV_MAX_RECORD_SIZE' || error.code === 'CSV_QUOTE_NOT_CLOSED') {
    return `the record does not end within ${maxRecordLength} characters; look for a quote that is not closed`;
  }
  return 'a quote stands where none may; quote the whole cell and write the quote twice';
}

/** Records as CSV, a line each. */
export function formatCsv(records: readonly (readonly string[])[]): string {
  return stringify(records.map((cells) => cells.map(protectFormula)));
}

/**
 * A cell that a spreadsheet would take for a formula, made text by an apostrophe before it, as for a cell that
 * begins so with apostrophes already: `unprotectFormula` undoes it without loss.
 *
 * @see https://owasp.org/www-community/attacks/CSV_Injection
 */
export function protectFormula(cell: string): string {
  return /^'*[=+\-@\t\r＝＋－＠]/.test(cell) ? `'${cell}` : cell;
}

export function unprotectFormula(cell: string): string {
  return /^'+[=+\-@\t\r＝＋－＠]/.test(cell) ? cell.slice(1) : cell;
}
