import { readFile } from 'node:fs/promises';
import { type CommandJson, type CommandRequestJson, requirePayloadRoom } from '../../api/command.js';
import type { Metadata } from '../../db/devices/device-fields.js';
import { readDurationMs } from '../../duration.js';
import { fileReasonOf, messageOf, SvcMqttError } from '../../errors.js';
import type { Call } from '../command/command.js';
import { usageError } from '../command/usage-error.js';
import { openApi } from '../store/api-address.js';
import type { RemoteApi } from '../store/live-api.js';
import { confirm } from '../terminal/ask.js';
import { type CommandIo, interruptedBy, prefaced, requireGoing, waitFor, write } from '../terminal/io.js';
import { startProgress } from '../terminal/progress-report.js';
import { escapeControls, formatCount, toJsonLine } from '../terminal/text.js';

interface SendOptions {
  readonly file?: string;
  readonly qos?: 0 | 1;
  readonly expires?: string;
  readonly wait?: string;
  readonly ack?: boolean;
  readonly type?: string;
  readonly metadata?: Metadata;
}

/** Commands to many devices under way at a time. */
const concurrency = 8;
const strictUtf8 = new TextDecoder('utf-8', { fatal: true });

/**
 * Sends a command to a device, or to all that are selected, which waits until the device has it; or asks a device that is
 * connected, and prints its answer.
 *
 * @returns the exit status: 1 when the question was answered with no, or some devices could not be sent it.
 * @throws SvcMqttError USAGE, DEVICE_NOT_FOUND, DEVICE_UNAVAILABLE, DEVICE_SILENT, NATS_*, API_UNREACHABLE.
 */
export async function sendToDevice({ config, options, args, io }: Call<SendOptions>): Promise<number> {
  const isMany = options.type !== undefined || options.metadata !== undefined;
  const [device = '', topic, text, ...rest] = isMany ? ['', ...args] : args;
  if (topic === undefined || rest.length > 0)
    throw usageError(
      'device send takes a device and a topic, and a payload if there is one',
      'With --type or --metadata leave out the device',
    );
  const request = { topic, ...(await readPayload(text, options.file, io)), ...readTerms(options) };
  const { api } = openApi(config, io);
  if (isMany) return await sendToMany(api, options, request, io);
  const sent = await waitFor(api.sendCommand(device, request), io);
  await write(io.stdout, options.json === true ? toJsonLine(sent) : describe(sent));
  if (sent.stored !== null && options.json !== true)
    await write(
      io.stderr,
      `Follow it: svc-mqtt device command ${escapeControls(sent.device)} ${sent.stored.sequence} --wait 10m\n`,
    );
  return 0;
}

function readTerms({ wait, expires, ack, qos }: SendOptions): Partial<CommandRequestJson> {
  if (wait !== undefined && expires !== undefined)
    throw usageError('--wait and --expires do not go together', 'Leave out one of the two');
  if (ack === true && wait === undefined) throw usageError('--ack goes only with --wait', 'Add --wait 5s');
  if (ack === true && qos === 0)
    throw usageError('--ack does not go with --qos 0, which nobody acknowledges', 'Leave out one of the two');
  return {
    ...(qos === undefined ? {} : { qos }),
    ...(wait === undefined ? {} : { wait_seconds: toMs('--wait', wait) / 1_000 }),
    ...(expires === undefined ? {} : { expires_in_seconds: Math.ceil(toMs('--expires', expires) / 1_000) }),
    ...(ack === true ? { ack: true } : {}),
  };
}

function toMs(option: string, text: string): number {
  const ms = readDurationMs(text);
  if (ms === undefined || ms <= 0) throw usageError(`${option} takes a time such as 5s or 1h`, 'Give one');
  return ms;
}

/** Text as it is, any other bytes, and text that JSON would make longer, as base64. */
async function readPayload(
  text: string | undefined,
  file: string | undefined,
  io: CommandIo,
): Promise<Pick<CommandRequestJson, 'payload' | 'payload_base64'>> {
  if (text !== undefined && file !== undefined)
    throw usageError('A payload and --file do not go together', 'Leave out one of the two');
  const path = file ?? (text === '-' ? '-' : undefined);
  if (path === undefined) return { payload: text ?? '' };
  const bytes = path === '-' ? await readAll(io) : await readWhole(path);
  requirePayloadRoom(bytes);
  const base64 = bytes.toString('base64');
  try {
    const text = strictUtf8.decode(bytes);
    // Control characters are six bytes each in JSON.
    if (Buffer.byteLength(JSON.stringify(text)) <= base64.length) return { payload: text };
  } catch {
    // It is no text.
  }
  return { payload_base64: base64 };
}

async function readWhole(path: string): Promise<Buffer> {
  try {
    return await readFile(path);
  } catch (error) {
    throw new SvcMqttError('INPUT_INVALID', `The file ${path} cannot be read: ${fileReasonOf(error)}`);
  }
}

async function readAll(io: CommandIo): Promise<Buffer> {
  const chunks: Buffer[] = [];
  const abort = () => io.stdin.destroy(interruptedBy(io.signal));
  io.signal.addEventListener('abort', abort, { once: true });
  for await (const chunk of io.stdin) chunks.push(Buffer.from(chunk as Buffer));
  io.signal.removeEventListener('abort', abort);
  return Buffer.concat(chunks);
}

/** What came of a command; of an answer, the answer alone. */
function describe({ device, topic, stored, answer }: CommandJson): string {
  if (answer !== null)
    return `${answer.by === 'ack' ? `${escapeControls(device)} ` : ''}${describeAnswer(answer)}\n`;
  const where =
    stored === null ? 'sent to the clients that are connected' : `${stored.stream} ${stored.sequence}`;
  return `${escapeControls(device)}  ${escapeControls(topic)}  ${where}\n`;
}

function describeAnswer({ by, payload, payload_base64: base64 }: NonNullable<CommandJson['answer']>): string {
  if (by === 'ack') return 'has it';
  return payload === null ? base64 : escapeControls(payload);
}

async function sendToMany(
  api: RemoteApi,
  { type, metadata, yes, json }: Call<SendOptions>['options'],
  request: CommandRequestJson,
  io: CommandIo,
): Promise<number> {
  const ids: string[] = [];
  for await (const page of api.devices({ type, metadata })) {
    requireGoing(io.signal);
    ids.push(...page);
  }
  const question = {
    doing: 'Sending',
    text: `Send ${request.topic} to ${formatCount(ids.length, 'device')}?`,
    declined: 'Nothing was sent.',
  };
  if (ids.length > 0 && !(await confirm(question, yes, io))) return 1;
  const progress = startProgress(io);
  const failed: { device: string; reason: string }[] = [];
  let done = 0;
  let next = 0;
  let failure: unknown;
  const goesOn = () => failure === undefined && !io.signal.aborted && !io.outputClosed.aborted;
  const work = async () => {
    while (goesOn()) {
      const id = ids[next++];
      if (id === undefined) return;
      try {
        const sent = await api.sendCommand(id, request);
        if (json === true) await write(io.stdout, toJsonLine(sent));
        else if (sent.answer !== null)
          await write(io.stdout, `${escapeControls(id)}  ${describeAnswer(sent.answer)}\n`);
      } catch (error) {
        if (error instanceof SvcMqttError && error.code === 'API_UNREACHABLE') {
          failure ??= error;
          return;
        }
        failed.push({ device: id, reason: messageOf(error) });
        if (json === true) await write(io.stdout, toJsonLine({ device: id, error: messageOf(error) }));
      }
      done += 1;
      progress.update({ step: 'sending', done, total: ids.length });
    }
  };
  try {
    await Promise.all(Array.from({ length: concurrency }, work));
  } finally {
    await progress.close();
  }
  if (json !== true) {
    for (const { device, reason } of failed)
      await write(io.stderr, `${escapeControls(device)}: ${escapeControls(reason)}\n`);
    await write(io.stdout, `${formatCount(done - failed.length, 'device')} sent, ${failed.length} failed\n`);
  }
  const left = ids.length - done;
  if (left > 0) {
    const preface = `${formatCount(left, 'device')} not sent`;
    if (failure !== undefined) throw prefaced(failure, preface);
    if (io.signal.aborted) throw prefaced(interruptedBy(io.signal), preface);
    await write(io.stderr, `${preface}: nobody reads on.\n`);
  }
  return failed.length === 0 && left === 0 ? 0 : 1;
}
