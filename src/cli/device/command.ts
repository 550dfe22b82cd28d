import { setTimeout as delay } from 'node:timers/promises';
import type { CommandProgressJson } from '../../api/command.js';
import type { Call } from '../command/command.js';
import { usageError } from '../command/usage-error.js';
import { openApi } from '../store/api-address.js';
import { requireGoing, write } from '../terminal/io.js';
import { blockTime, type FormatTime } from '../terminal/table.js';
import { escapeControls, formatBlock, toJsonLine } from '../terminal/text.js';

/** While a command is waited for, it is asked for so often. */
const pollMs = 500;

/**
 * Shows how far a command is, at once, or when that is settled.
 *
 * @returns the exit status: 1 when it was waited for, and the device does not have it.
 * @throws SvcMqttError USAGE, DEVICE_NOT_FOUND, COMMAND_NOT_FOUND, COMMAND_GONE, NATS_*, API_UNREACHABLE; Interrupted.
 */
export async function followCommand(call: Call<{ readonly wait?: number }>): Promise<number> {
  const { config, options, io } = call;
  const [device = '', given = ''] = call.args;
  const { wait: waitMs = 0, json } = options;
  const sequence = /^[1-9]\d{0,15}$/.test(given) ? Number(given) : Number.NaN;
  if (!Number.isSafeInteger(sequence))
    throw usageError(`${escapeControls(given)} is no sequence`, 'Give the number that device send prints');
  const { api } = openApi(config, io);
  const endMs = performance.now() + waitMs;
  let found = await api.command(device, sequence);
  while (!isSettled(found) && performance.now() < endMs && !io.signal.aborted) {
    await delay(Math.min(pollMs, endMs - performance.now()), undefined, { signal: io.signal }).catch(
      () => {},
    );
    found = await api.command(device, sequence);
  }
  await write(io.stdout, json === true ? toJsonLine(found) : formatBlock(toRows(found, blockTime(io))));
  if (!isSettled(found) && waitMs > 0) requireGoing(io.signal);
  return options.wait === undefined || isThere(found) ? 0 : 1;
}

/** The device has it, as far as anybody will know. */
function isThere({ state, sessions }: CommandProgressJson): boolean {
  return (
    state === 'acknowledged' ||
    (state === 'sent' && sessions.some((each) => each.state === 'sent' && each.qos === 0))
  );
}

/** Nothing more will come of it. */
function isSettled(found: CommandProgressJson): boolean {
  return isThere(found) || ['refused', 'expired', 'unclaimed'].includes(found.state);
}

function toRows(found: CommandProgressJson, time: FormatTime): [string, string][] {
  const { sessions, replicas } = found;
  return [
    ['state', found.state],
    ['device', found.device],
    ['topic', found.topic],
    [
      'stored',
      `${time(found.stored_at)}, as ${found.sequence} of ${found.stream}, ${found.bytes} bytes, QoS ${found.qos}`,
    ],
    ['expires', found.expires_at === null ? 'never' : time(found.expires_at)],
    ...sessions.map(
      ({ client, state, qos, connected }, index) =>
        [
          index === 0 ? 'clients' : '',
          `${escapeControls(client)}  ${state}${qos === 0 ? ' (QoS 0)' : ''}, ${connected ? 'connected' : 'away'}`,
        ] satisfies [string, string],
    ),
    ...replicas
      .filter(({ ok }) => !ok)
      .map(({ replica, detail }) => ['no answer', `${replica}: ${detail}`] satisfies [string, string]),
  ];
}
