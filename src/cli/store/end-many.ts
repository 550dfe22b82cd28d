import { type ErrorCode, SvcMqttError } from '../../errors.js';
import type { Call } from '../command/command.js';
import { usageError } from '../command/usage-error.js';
import { confirm, requireTerminal } from '../terminal/ask.js';
import { prefaced, requireGoing, write } from '../terminal/io.js';
import { describeMissing, escapeControls, formatCount, formatShare, toJsonLine } from '../terminal/text.js';
import { openApi } from './api-address.js';
import type { RemoteApi } from './live-api.js';

/** What a command takes that ends several things over the API. */
export interface EndManyOptions {
  /** All of this device, in place of ids. */
  readonly device?: string;
}

/** What a command ends, and its words. */
interface Ending {
  /** Of the command, such as `session end`, and of what it ends, such as `session`. */
  readonly command: string;
  readonly noun: string;
  readonly notFound: ErrorCode;
  /** `Ending` and `ended`, such as they are. */
  readonly doing: string;
  readonly done: string;
  /** Said when some are not there. */
  readonly suggestion: string;
  idsOf(device: string, api: RemoteApi): Promise<string[]>;
  /** @param what such as `session a`, or `3 sessions of device b`. */
  question(what: string, isOne: boolean): string;
  end(id: string, api: RemoteApi): Promise<void>;
}

/**
 * Ends things one after the other, after asking on a terminal, until a signal comes, and says of each what became of it.
 * Those that are not there are named at the end; of those of a device one that has gone by itself is no failure.
 *
 * @returns the exit status: 1 when the question was answered with no.
 * @throws SvcMqttError USAGE, `notFound`, API_UNREACHABLE, UNAUTHENTICATED, FORBIDDEN, NATS_*; Interrupted.
 */
export async function endMany(
  { config, options: { device, yes, json }, args: named, io }: Call<EndManyOptions>,
  ending: Ending,
): Promise<number> {
  const { noun, doing, done } = ending;
  if ((device === undefined) === (named.length === 0))
    throw usageError(`${ending.command} takes ids of ${noun}s, or --device <id>`, 'Give one of the two');
  if (yes !== true) requireTerminal(doing, io);
  const { api } = openApi(config, io);
  const ids = device === undefined ? [...new Set(named)] : await ending.idsOf(device, api);
  if (device !== undefined && ids.length === 0)
    throw new SvcMqttError(ending.notFound, `Device ${escapeControls(device)} has no ${noun}`, {
      suggestion: `\`svc-mqtt ${noun} list\` shows who has`,
    });
  const which = ids.length === 1 ? `${noun} ${escapeControls(ids[0] ?? '')}` : formatCount(ids.length, noun);
  const whose = device === undefined ? '' : ` of device ${escapeControls(device)}`;
  const text = ending.question(`${which}${whose}`, ids.length === 1);
  if (!(await confirm({ doing, text, declined: `Nothing was ${done}.` }, yes, io))) return 1;
  const unknown: string[] = [];
  for (const [at, id] of ids.entries()) {
    let found = true;
    try {
      requireGoing(io.signal);
      await ending.end(id, api);
    } catch (error) {
      if (!(error instanceof SvcMqttError) || error.code !== ending.notFound)
        throw at === 0
          ? error
          : prefaced(error, `${formatShare(at - unknown.length, ids.length, noun)} ${done}, and then`);
      found = false;
    }
    if (!found) unknown.push(id);
    if (json === true) await write(io.stdout, toJsonLine({ id, outcome: found ? done : 'unknown' }));
    else if (found) await write(io.stdout, `${escapeControls(id)} ${done}\n`);
  }
  if (unknown.length > 0 && device === undefined) {
    const { notFound, suggestion } = ending;
    throw new SvcMqttError(notFound, describeMissing(noun, unknown), { suggestion });
  }
  return 0;
}
