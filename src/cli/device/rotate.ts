import type { RotatedDeviceJson } from '../../api/device.js';
import type { Call } from '../command/command.js';
import { usageError } from '../command/usage-error.js';
import { withStore } from '../store/open.js';
import { confirm } from '../terminal/ask.js';
import { requireWritten, write } from '../terminal/io.js';
import { escapeControls, formatBlock, formatTime, toJsonLine } from '../terminal/text.js';
import { deviceNotFound } from './show.js';

interface RotateOptions {
  /** How long the secret until now stays valid, ms; none: it ends at once. */
  readonly grace?: number;
  readonly untilUsed?: boolean;
}

/**
 * Gives a device a new secret and shows it, once; without a grace after asking on a terminal, since the secret until now
 * and its connections end.
 *
 * @returns the exit status: 1 when the question was answered with no.
 * @throws SvcMqttError USAGE, DEVICE_NOT_FOUND, DATABASE_*.
 */
export async function rotateDevice(call: Call<RotateOptions>): Promise<number> {
  const { config, options, io } = call;
  const [id = ''] = call.args;
  const { grace: graceMs, untilUsed } = options;
  if (untilUsed === true && graceMs === undefined) {
    throw usageError(
      '--until-used needs --grace <duration>, the longest that the old secret stays valid',
      'Example: svc-mqtt device rotate ID --grace 7d --until-used',
    );
  }
  const question = {
    doing: 'Rotating without --grace',
    text: `End the secret of device ${escapeControls(id)} now? Its connections end, and it stays out until it has the new one; --grace 24h keeps both valid.`,
    declined: 'Nothing was changed.',
  };
  if (graceMs === undefined && !(await confirm(question, options.yes, io))) return 1;
  const rotated = await withStore(config, io, ({ devices }) => devices.rotate(id, { graceMs, untilUsed }));
  if (rotated === undefined) throw deviceNotFound([id]);
  const rows = [
    ['id', rotated.id],
    ['mqtt_user', rotated.mqtt_user],
    ['mqtt_password', rotated.mqtt_password],
  ] as const;
  await write(io.stdout, options.json === true ? toJsonLine(rotated) : formatBlock(rows));
  const made = `The new secret of device ${escapeControls(rotated.id)} holds`;
  await requireWritten(io, made, 'Rotate it again');
  if (options.json === true) return 0;
  await write(io.stderr, `Keep the password: nothing can show it again. ${describeOld(rotated)}.\n`);
  return 0;
}

function describeOld(rotated: RotatedDeviceJson): string {
  if (rotated.previous_secret_until === null) return 'The old one has ended';
  const until = formatTime(rotated.previous_secret_until);
  return rotated.previous_secret_until_used
    ? `The old one is valid until this one is used, at most until ${until}`
    : `The old one is valid until ${until}`;
}
