import { checkReason, requireValid } from '../../db/devices/device-fields.js';
import type { Outcomes } from '../../db/devices/device-revocation.js';
import type { Call } from '../command/command.js';
import { usageError } from '../command/usage-error.js';
import { withStore } from '../store/open.js';
import { confirm, type Question, requireTerminal } from '../terminal/ask.js';
import { type CommandIo, prefaced, write } from '../terminal/io.js';
import { escapeControls, formatCount, formatShare, toJsonLine } from '../terminal/text.js';
import { collectIds } from './ids.js';
import { deviceNotFound } from './show.js';

interface RevokeOptions {
  /** For the audit log. */
  readonly reason?: string;
}

/** What is done to devices, and its words. */
interface Change {
  readonly verb: 'revoke' | 'enable' | 'remove';
  /** Of each outcome: as JSON, then on a terminal; none: it is a failure. */
  readonly words: readonly [keyof Outcomes, string, string][];
}

/** A change that ends connections, so that it is asked for. */
interface Ending extends Change, Pick<Question, 'doing' | 'declined'> {
  readonly asking: string;
  readonly consequence: string;
}

const atOnce = 'connections and sessions end at once';

const revocation: Ending = {
  verb: 'revoke',
  words: [
    ['changed', 'revoked', 'revoked'],
    ['unchanged', 'already_revoked', 'was revoked before'],
    ['unknown', 'unknown', ''],
  ],
  asking: 'Revoke',
  doing: 'Revoking',
  consequence: `${atOnce}.`,
  declined: 'Nothing was revoked.',
};

const removal: Ending = {
  verb: 'remove',
  words: [
    ['changed', 'removed', 'removed'],
    ['unknown', 'unknown', ''],
  ],
  asking: 'Remove',
  doing: 'Removing',
  consequence: `${atOnce}, and nothing brings secret and metadata back.`,
  declined: 'Nothing was removed.',
};

const enabling: Change = {
  verb: 'enable',
  words: [
    ['changed', 'enabled', 'enabled'],
    ['unchanged', 'already_enabled', 'was not revoked'],
    ['unknown', 'unknown', ''],
  ],
};

/**
 * Revokes devices, after asking on a terminal. Unknown ids are named at the end; the others are revoked.
 *
 * @returns the exit status: 1 when the question was answered with no.
 * @throws SvcMqttError USAGE without a terminal to ask on, INPUT_INVALID, DEVICE_NOT_FOUND, DATABASE_*.
 */
export function revokeDevices(call: Call): Promise<number> {
  return askAndChange(call, revocation);
}

/**
 * Removes devices for good, after asking on a terminal. Unknown ids are named at the end; the others are removed.
 *
 * @returns the exit status: 1 when the question was answered with no.
 * @throws SvcMqttError USAGE without a terminal to ask on, INPUT_INVALID, DEVICE_NOT_FOUND, DATABASE_*.
 */
export function removeDevices(call: Call): Promise<number> {
  return askAndChange(call, removal);
}

async function askAndChange(
  { config, options, args, io }: Call<RevokeOptions>,
  ending: Ending,
): Promise<number> {
  const { doing, declined } = ending;
  if (options.reason !== undefined) requireValid('reason', checkReason(options.reason));
  if (options.yes !== true) {
    if (args.includes('-')) throw usageError(`${doing} needs a yes, and stdin holds the ids`, 'Add --yes');
    requireTerminal(doing, io);
  }
  const ids = await collectIds(args, io);
  const text = toQuestionText(ending, ids);
  if (!(await confirm({ doing, text, declined }, options.yes, io))) return 1;
  await changeDevices({ config, options, io }, ending, ids);
  return 0;
}

/**
 * Ends the revocation of devices. Unknown ids are named at the end; the others are enabled.
 *
 * @throws SvcMqttError INPUT_INVALID, DEVICE_NOT_FOUND, DATABASE_*.
 */
export async function enableDevices({ config, options, args, io }: Call): Promise<void> {
  await changeDevices({ config, options, io }, enabling, await collectIds(args, io));
}

async function changeDevices(
  { config, options, io }: Pick<Call<RevokeOptions>, 'config' | 'options' | 'io'>,
  { verb, words }: Change,
  ids: readonly string[],
): Promise<void> {
  const unknown: string[] = [];
  let done = 0;
  await withStore(config, io, async ({ devices }) => {
    try {
      for await (const outcomes of devices[verb](ids, options.reason)) {
        done += outcomes.changed.length + outcomes.unchanged.length;
        unknown.push(...outcomes.unknown);
        await writeOutcomes(outcomes, words, options.json === true, io);
      }
    } catch (error) {
      const missing = unknown.length === 0 ? '' : `; ${deviceNotFound(unknown).message}`;
      const share = `${formatShare(done, ids.length, 'device')} done${missing}, and then`;
      throw done + unknown.length === 0 ? error : prefaced(error, share);
    }
  });
  if (unknown.length > 0) throw deviceNotFound(unknown);
}

function toQuestionText({ asking, consequence }: Ending, ids: readonly string[]): string {
  const shown = ids.slice(0, 5).map(escapeControls).join(', ');
  const [only, more] = [ids.length === 1, ids.length > 5 ? ', …' : ''];
  const subject = only ? `device ${shown}` : `${formatCount(ids.length, 'device')} (${shown}${more})`;
  return `${asking} ${subject}? ${only ? 'Its' : 'Their'} ${consequence}`;
}

async function writeOutcomes(
  outcomes: Outcomes,
  words: Change['words'],
  json: boolean,
  io: CommandIo,
): Promise<void> {
  for (const [kind, name, text] of words) {
    for (const id of outcomes[kind]) {
      if (json) await write(io.stdout, toJsonLine({ id, outcome: name }));
      else if (text !== '') await write(io.stdout, `${escapeControls(id)} ${text}\n`);
    }
  }
}
