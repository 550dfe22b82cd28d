import { SvcMqttError } from '../../errors.js';
import { type CommandIo, type InputStream, Interrupted } from '../terminal/io.js';
import { escapeControls, formatCount } from '../terminal/text.js';

/** Most devices that one command changes. */
const maxIds = 100_000;
/** Longest id that a stored device can have; more without white space is no list of ids. */
const maxIdLength = 1_024;

/**
 * The distinct ids, in the order given.
 *
 * @param given device ids; `-` stands for the ids on stdin, separated by white space.
 * @throws SvcMqttError INPUT_INVALID.
 */
export async function collectIds(given: readonly string[], io: CommandIo): Promise<string[]> {
  const ids = new Set<string>();
  const add = (id: string) => {
    if (id.length > maxIdLength || /\p{Cc}/u.test(id)) {
      throw new SvcMqttError('INPUT_INVALID', `"${escapeControls(id.slice(0, 64))}" is not a device id`);
    }
    ids.add(id);
    if (ids.size > maxIds) {
      throw new SvcMqttError(
        'INPUT_INVALID',
        `One command changes at most ${formatCount(maxIds, 'device')}`,
        {
          suggestion: 'Split the list',
        },
      );
    }
  };
  for (const id of given) if (id !== '-') add(id);
  if (given.includes('-')) for await (const word of words(io.stdin, io.signal)) add(word);
  if (ids.size === 0) throw new SvcMqttError('INPUT_INVALID', 'There are no device ids on stdin');
  return [...ids];
}

/** The words of a stream, without holding more of it than one chunk and one word. */
async function* words(stream: InputStream, signal: AbortSignal): AsyncGenerator<string> {
  let rest = '';
  const abort = () => stream.destroy(new Interrupted(String(signal.reason)));
  signal.addEventListener('abort', abort, { once: true });
  stream.setEncoding('utf8');
  for await (const chunk of stream) {
    const parts = (rest + String(chunk)).split(/\s+/);
    rest = parts.pop() ?? '';
    for (const part of parts) if (part !== '') yield part;
    if (rest.length > maxIdLength) break;
  }
  if (rest !== '') yield rest;
}
