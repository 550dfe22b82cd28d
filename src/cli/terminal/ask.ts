import { createInterface, type Interface } from 'node:readline';
import { Writable } from 'node:stream';
import { usageError } from '../command/usage-error.js';
import { type CommandIo, Interrupted, whenAborted } from './io.js';

/** What is asked before something is ended. */
export interface Question {
  /** `Revoking`, as in "Revoking needs a yes". */
  readonly doing: string;
  readonly text: string;
  /** What is said when the answer is no. */
  readonly declined: string;
}

/**
 * Asks before something is ended, unless the answer was given in advance with `--yes`.
 *
 * @returns whether to go on; if not, stderr has said so.
 * @throws SvcMqttError USAGE without a terminal to ask on; Interrupted.
 */
export async function confirm(question: Question, yes: boolean | undefined, io: CommandIo): Promise<boolean> {
  if (yes === true) return true;
  requireTerminal(question.doing, io);
  if (await askYesNo(question.text, io)) return true;
  io.stderr.write(`${question.declined}\n`);
  return false;
}

/** Requires somebody who can be asked. @throws SvcMqttError USAGE. */
export function requireTerminal(doing: string, io: CommandIo): void {
  if (io.stdin.isTTY === true && io.stderr.isTTY === true) return;
  throw usageError(`${doing} needs a yes, and there is no terminal to ask on`, 'Add --yes');
}

/**
 * Asks a question on the terminal. Anything but y or yes is a no, the end of input too.
 *
 * @throws Interrupted when a signal, or Ctrl-C at the question, ends the wait.
 */
async function askYesNo(question: string, io: CommandIo): Promise<boolean> {
  let answer: string | undefined;
  try {
    answer = await readAnswer<string | undefined>(io, io.stderr, (lines, resolve) => {
      lines.on('close', () => resolve(undefined));
      lines.question(`${question} [y/N] `, resolve);
    });
  } finally {
    if (answer === undefined) io.stderr.write('\n');
  }
  return answer !== undefined && /^\s*y(es)?\s*$/i.test(answer);
}

/**
 * Asks for a secret on the terminal, where it is not shown; without one it is the first line of stdin.
 *
 * @throws Interrupted when a signal, or Ctrl-C at the question, ends the wait.
 */
export async function askSecret(question: string, io: CommandIo): Promise<string> {
  const onTerminal = io.stdin.isTTY === true;
  const nowhere = new Writable({ write: (_chunk, _encoding, done) => done() });
  if (onTerminal) io.stderr.write(question);
  try {
    return await readAnswer<string>(io, nowhere, (lines, resolve) => {
      lines.on('line', (line) => resolve(line.trim()));
      lines.on('close', () => resolve(''));
    });
  } finally {
    if (onTerminal) io.stderr.write('\n');
  }
}

/** Reads what `listen` waits for. @throws Interrupted. */
async function readAnswer<T>(
  io: CommandIo,
  output: Writable,
  listen: (lines: Interface, resolve: (answer: T) => void) => void,
): Promise<T> {
  const lines = createInterface({ input: io.stdin, output, terminal: io.stdin.isTTY === true });
  const aborted = whenAborted(io.signal);
  const answered = new Promise<T>((resolve, reject) => {
    // In a terminal's raw mode Ctrl-C reaches readline as a key and the process as nothing.
    lines.on('SIGINT', () => reject(new Interrupted('SIGINT')));
    listen(lines, resolve);
  });
  try {
    return await Promise.race([answered, aborted.promise]);
  } finally {
    aborted.release();
    lines.close();
  }
}
