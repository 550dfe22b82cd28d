import type { Config } from '../config.js';
import { type Outcomes, revokeDevices } from '../db/device-changes.js';
import { SvcMqttError } from '../errors.js';
import { readCliActor } from './actor.js';
import { askYesNo } from './ask.js';
import { requireSchema, withDatabase } from './database.js';
import { deviceNotFound } from './device-show.js';
import { type CommandIo, type InputStream, Interrupted, write } from './io.js';
import { escapeControls, formatCount, toJsonLine } from './text.js';
import { usageError } from './usage-error.js';

export interface DeviceRevokeOptions {
  /** Device ids; `-` stands for the ids on stdin, separated by white space. */
  readonly ids: readonly string[];
  readonly yes?: boolean | undefined;
  readonly json?: boolean | undefined;
}

const maxIds = 100_000;
/** Longest id that a stored device can have; more without white space is no list of ids. */
const maxIdLength = 1_024;
const batchSize = 1_000;

/**
 * Revokes devices, after asking on a terminal. Unknown ids are named at the end; the others are revoked.
 *
 * @returns the exit status: 1 when the question was answered with no.
 * @throws SvcMqttError USAGE without a terminal to ask on, INPUT_INVALID, DEVICE_NOT_FOUND, DATABASE_*.
 */
export async function revokeDevice(
  config: Config,
  options: DeviceRevokeOptions,
  io: CommandIo,
): Promise<number> {
  if (options.yes !== true) requireTerminal(options.ids, io);
  const ids = await collectIds(options.ids, io);
  if (options.yes !== true && !(await askYesNo(question(ids), io))) {
    await write(io.stderr, 'Nothing was revoked.\n');
    return 1;
  }
  const unknown: string[] = [];
  await withDatabase(config, io, async (db) => {
    await requireSchema(db);
    for (let start = 0; start < ids.length && !io.signal.aborted; start += batchSize) {
      const outcome = await revokeDevices(db, readCliActor(), ids.slice(start, start + batchSize));
      unknown.push(...outcome.unknown);
      await writeOutcome(outcome, options.json === true, io);
    }
  });
  if (unknown.length > 0) throw deviceNotFound(unknown);
  return 0;
}

/** Without a yes in advance somebody has to be there to ask. */
function requireTerminal(ids: readonly string[], io: CommandIo): void {
  const why = ids.includes('-')
    ? 'stdin holds the ids'
    : io.stdin.isTTY !== true || io.stderr.isTTY !== true
      ? 'there is no terminal to ask on'
      : undefined;
  if (why !== undefined) throw usageError(`Revoking needs a yes, and ${why}`, 'Add --yes');
}

/** The distinct ids, in the order given. */
async function collectIds(given: readonly string[], io: CommandIo): Promise<string[]> {
  const ids = new Set<string>();
  const add = (id: string) => {
    if (id.length > maxIdLength || /\p{Cc}/u.test(id)) {
      throw new SvcMqttError('INPUT_INVALID', `"${escapeControls(id.slice(0, 64))}" is not a device id`);
    }
    ids.add(id);
    if (ids.size > maxIds) {
      throw new SvcMqttError(
        'INPUT_INVALID',
        `One command revokes at most ${formatCount(maxIds, 'device')}`,
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

function question(ids: readonly string[]): string {
  const shown = ids.slice(0, 5).map(escapeControls).join(', ');
  const [only, more] = [ids.length === 1, ids.length > 5 ? ', …' : ''];
  const subject = only ? `device ${shown}` : `${formatCount(ids.length, 'device')} (${shown}${more})`;
  return `Revoke ${subject}? ${only ? 'Its' : 'Their'} connections end at once, and this cannot be undone.`;
}

async function writeOutcome(outcome: Outcomes, json: boolean, io: CommandIo): Promise<void> {
  const kinds = [
    ['revoked', outcome.changed, 'revoked'],
    ['already_revoked', outcome.unchanged, 'was revoked before'],
    ['unknown', outcome.unknown, ''],
  ] as const;
  for (const [kind, ids, words] of kinds) {
    for (const id of ids) {
      if (json) await write(io.stdout, toJsonLine({ id, outcome: kind }));
      else if (words !== '') await write(io.stdout, `${escapeControls(id)} ${words}\n`);
    }
  }
}
