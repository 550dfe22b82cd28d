import type { Config } from '../../config.js';
import type { Outcomes } from '../../db/devices/device-changes.js';
import { checkReason, requireValid } from '../../db/devices/device-fields.js';
import { usageError } from '../command/usage-error.js';
import { withStore } from '../store/open.js';
import { confirm, type Question, requireTerminal } from '../terminal/ask.js';
import { type CommandIo, write } from '../terminal/io.js';
import { prefaced } from '../terminal/prefaced.js';
import { escapeControls, formatCount, formatShare, toJsonLine } from '../terminal/text.js';
import { collectIds } from './ids.js';
import { deviceNotFound } from './show.js';

export interface DeviceRevokeOptions {
  /** Device ids; `-` stands for the ids on stdin, separated by white space. */
  readonly ids: readonly string[];
  /** Of a revocation, for the audit log. */
  readonly reason?: string | undefined;
  readonly yes?: boolean | undefined;
  readonly json?: boolean | undefined;
}

/** What is done to devices, and the words for each outcome: as JSON, then on a terminal; none: it is a failure. */
interface Change {
  readonly verb: 'revoke' | 'enable' | 'remove';
  readonly words: readonly [keyof Outcomes, string, string][];
}

const revocation: Change = {
  verb: 'revoke',
  words: [
    ['changed', 'revoked', 'revoked'],
    ['unchanged', 'already_revoked', 'was revoked before'],
    ['unknown', 'unknown', ''],
  ],
};

const enabling: Change = {
  verb: 'enable',
  words: [
    ['changed', 'enabled', 'enabled'],
    ['unchanged', 'already_enabled', 'was not revoked'],
    ['unknown', 'unknown', ''],
  ],
};

const removal: Change = {
  verb: 'remove',
  words: [
    ['changed', 'removed', 'removed'],
    ['unknown', 'unknown', ''],
  ],
};

/** What is asked before a change that ends connections, and said when it is not made. */
interface DeviceQuestion extends Pick<Question, 'doing' | 'declined'> {
  readonly verb: string;
  readonly consequence: string;
}

const atOnce = 'connections and sessions end at once';
const revocationQuestion: DeviceQuestion = {
  doing: 'Revoking',
  verb: 'Revoke',
  consequence: `${atOnce}.`,
  declined: 'Nothing was revoked.',
};
const removalQuestion: DeviceQuestion = {
  doing: 'Removing',
  verb: 'Remove',
  consequence: `${atOnce}, and nothing brings secret and metadata back.`,
  declined: 'Nothing was removed.',
};

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
  if (options.reason !== undefined) requireValid('reason', checkReason(options.reason));
  return await askAndChange(config, revocation, revocationQuestion, options, io);
}

/**
 * Removes devices for good, after asking on a terminal. Unknown ids are named at the end; the others are removed.
 *
 * @returns the exit status: 1 when the question was answered with no.
 * @throws SvcMqttError USAGE without a terminal to ask on, INPUT_INVALID, DEVICE_NOT_FOUND, DATABASE_*.
 */
export async function removeDevice(
  config: Config,
  options: DeviceRevokeOptions,
  io: CommandIo,
): Promise<number> {
  return await askAndChange(config, removal, removalQuestion, options, io);
}

async function askAndChange(
  config: Config,
  change: Change,
  question: DeviceQuestion,
  options: DeviceRevokeOptions,
  io: CommandIo,
): Promise<number> {
  const { doing, declined } = question;
  if (options.yes !== true) {
    if (options.ids.includes('-'))
      throw usageError(`${doing} needs a yes, and stdin holds the ids`, 'Add --yes');
    requireTerminal(doing, io);
  }
  const ids = await collectIds(options.ids, io);
  const text = toQuestionText(question, ids);
  if (!(await confirm({ doing, text, declined }, options.yes, io))) return 1;
  await changeDevices(config, change, { ...options, ids }, io);
  return 0;
}

/**
 * Ends the revocation of devices. Unknown ids are named at the end; the others are enabled.
 *
 * @throws SvcMqttError INPUT_INVALID, DEVICE_NOT_FOUND, DATABASE_*.
 */
export async function enableDevice(
  config: Config,
  options: Omit<DeviceRevokeOptions, 'yes'>,
  io: CommandIo,
): Promise<void> {
  await changeDevices(config, enabling, { ...options, ids: await collectIds(options.ids, io) }, io);
}

async function changeDevices(
  config: Config,
  change: Change,
  { ids, reason, json }: Omit<DeviceRevokeOptions, 'yes'>,
  io: CommandIo,
): Promise<void> {
  const unknown: string[] = [];
  let done = 0;
  await withStore(config, io, async ({ devices }) => {
    try {
      for await (const outcomes of devices[change.verb](ids, reason)) {
        done += outcomes.changed.length + outcomes.unchanged.length;
        unknown.push(...outcomes.unknown);
        await writeOutcomes(outcomes, change.words, json === true, io);
      }
    } catch (error) {
      const missing = unknown.length === 0 ? '' : `; ${deviceNotFound(unknown).message}`;
      const share = `${formatShare(done, ids.length, 'device')} done${missing}, and then`;
      throw done + unknown.length === 0 ? error : prefaced(error, share);
    }
  });
  if (unknown.length > 0) throw deviceNotFound(unknown);
}

function toQuestionText({ verb, consequence }: DeviceQuestion, ids: readonly string[]): string {
  const shown = ids.slice(0, 5).map(escapeControls).join(', ');
  const [only, more] = [ids.length === 1, ids.length > 5 ? ', …' : ''];
  const subject = only ? `device ${shown}` : `${formatCount(ids.length, 'device')} (${shown}${more})`;
  return `${verb} ${subject}? ${only ? 'Its' : 'Their'} ${consequence}`;
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
