import { createInterface } from 'node:readline';
import { type CommandIo, Interrupted } from './io.js';

/**
 * Asks a question on the terminal. Anything but y or yes is a no, the end of input too.
 *
 * @throws Interrupted when a signal, or Ctrl-C at the question, ends the wait.
 */
export async function askYesNo(question: string, io: CommandIo): Promise<boolean> {
  const lines = createInterface({ input: io.stdin, output: io.stderr, terminal: io.stdin.isTTY === true });
  try {
    const answer = await new Promise<string | undefined>((resolve, reject) => {
      // In a terminal's raw mode Ctrl-C reaches readline as a key and the process as nothing.
      lines.on('SIGINT', () => reject(new Interrupted('SIGINT')));
      lines.on('close', () => resolve(undefined));
      io.signal.addEventListener('abort', () => reject(new Interrupted(String(io.signal.reason))), {
        once: true,
      });
      lines.question(`${question} [y/N] `, resolve);
    });
    if (answer === undefined) io.stderr.write('\n');
    return answer !== undefined && /^\s*y(es)?\s*$/i.test(answer);
  } catch (error) {
    io.stderr.write('\n');
    throw error;
  } finally {
    lines.close();
  }
}
