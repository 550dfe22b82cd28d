import { type CommandJson, requirePayloadRoom } from '../../../api/command.js';
import {
  CommandParams,
  CommandProgressResponse,
  CommandRequest,
  CommandResponse,
} from '../../../api/command-schema.js';
import { maxCommandBytes } from '../../../api/constants.js';
import { DeviceParams } from '../../../api/device-schema.js';
import type { Actor } from '../../../db/audit.js';
import { messageOf } from '../../../errors.js';
import type { Log } from '../../../log.js';
import type { CommandFailure, CommandSender } from '../../forward/commands/command-sender.js';
import type { FleetCommands } from '../../live.js';
import { requireField } from '../fields.js';
import { answer, operation } from '../operation.js';
import { invalidField, ProblemError } from '../problem.js';
import { logFor } from '../request-log.js';
import type { TypedApp } from '../typed-app.js';
import { requireDevice } from './device-input.js';
import type { DeviceQueries } from './device-queries.js';

export type CommandTopicProblem = (
  device: { readonly id: string; readonly type: string },
  topic: string,
) => string | undefined;

/** What commands of the API need. */
export interface CommandOptions {
  readonly devices: Pick<DeviceQueries, 'find'>;
  /** Why no client of a device could be sent it on this topic, in words; undefined: one could. */
  readonly topicProblem: CommandTopicProblem;
  /** Undefined: there is no NATS to send them by. */
  readonly commands: CommandSender | undefined;
  /** Where they are. */
  readonly sent: FleetCommands;
  /** Notes in the audit log that a command was sent. */
  note(actor: Actor, device: string, details: Readonly<Record<string, unknown>>): Promise<void>;
  readonly log: Log;
}

const strictUtf8 = new TextDecoder('utf-8', { fatal: true });

/** Adds the routes that send a command to a device, or ask it, and that show how far a command is. */
export function addCommandRoutes(app: TypedApp, options: CommandOptions): void {
  for (const schema of [CommandResponse, CommandProgressResponse]) app.addSchema(schema);
  addSendRoute(app, options);
  addProgressRoute(app, options);
}

function addProgressRoute(app: TypedApp, { devices, sent }: CommandOptions): void {
  app.get(
    '/devices/:id/commands/:sequence',
    operation('viewer', {
      tags: ['devices'],
      operationId: 'getCommand',
      summary: 'Show how far a command is',
      description:
        'Shows how far each session of the device is with a stored command, whichever replica is asked. 410 when the stream has dropped it.',
      params: CommandParams,
      response: answer(CommandProgressResponse, 'The command', 400, 404, 410),
    }),
    async (request, reply) => {
      const { id, sequence } = request.params;
      await requireDevice(id, devices.find);
      return reply.code(200).send(await sent.progress(id, sequence));
    },
  );
}

function addSendRoute(app: TypedApp, options: CommandOptions): void {
  const { devices, commands, topicProblem, note, log } = options;
  app.post(
    '/devices/:id/commands',
    {
      // As base64 and with what stands around it.
      bodyLimit: Math.ceil((maxCommandBytes * 4) / 3) + 16_384,
      config: { role: 'operator' },
      schema: {
        tags: ['devices'],
        operationId: 'sendCommand',
        summary: 'Send a command to a device, or ask it',
        description:
          'Sends a command that waits in NATS until the device has it; `GET /devices/{id}/commands/{sequence}` shows how far it is. With `wait_seconds` the device is asked instead, and its answer returned; it has to be connected and subscribed.',
        params: DeviceParams,
        body: CommandRequest,
        response: answer(CommandResponse, 'It is stored, or answered', 400, 404, 409, 413, 504),
      },
    },
    async (request, reply) => {
      const { topic, qos, expires_in_seconds: expirySec, wait_seconds: waitSec, ack } = request.body;
      if (/[+#\0]/.test(topic)) throw invalidField('topic', 'must not contain + or #');
      // They would be sent as other ones.
      for (const field of ['topic', 'payload'] as const)
        if (request.body[field]?.isWellFormed() === false) requireField(field, 'must be well-formed Unicode');
      const payload = readPayload(request.body);
      if (waitSec === undefined && ack !== undefined)
        throw invalidField('ack', 'goes only with wait_seconds');
      if (waitSec !== undefined && expirySec !== undefined)
        throw invalidField('expires_in_seconds', 'does not go with wait_seconds');
      if (ack === true && qos === 0)
        throw invalidField('qos', 'must be 1 with ack: nobody acknowledges QoS 0');
      const { id } = request.params;
      const device = await requireDevice(id, devices.find);
      if (device.revokedAt !== null)
        throw unavailable(`The device ${id} is revoked`, 'Enable it, if that was a mistake');
      if (device.expiresAt !== null && device.expiresAt.getTime() <= Date.now())
        throw unavailable(`The device ${id} has expired`, 'Give it another expiry, if it is to live on');
      const where = waitSec === undefined ? `cmd/${id}/${topic}` : `cmd/${id}/call/${topic}`;
      // Of a question the device's replica says so.
      const problem = waitSec === undefined ? topicProblem(device, where) : undefined;
      if (problem !== undefined) throw invalidField('topic', `is not possible: ${problem}`);
      if (commands === undefined) throw unavailable('The gateway has no NATS to send it by');
      const command = { deviceId: id, topic, payload, qos };
      let answered: Pick<CommandJson, 'stored' | 'answer'>;
      if (waitSec === undefined) {
        answered = { stored: (await commands.send(command, expirySec)) ?? null, answer: null };
      } else {
        const told = await commands.ask(command, { withinMs: waitSec * 1_000, ack: ack === true });
        if ('code' in told) throw toProblem(id, told);
        const { by, payload: bytes } = told;
        const asBase64 = Buffer.from(bytes).toString('base64');
        answered = { stored: null, answer: { by, payload: toText(bytes), payload_base64: asBase64 } };
      }
      const { sequence } = answered.stored ?? {};
      // It is done, whether the database is there to note it or not.
      await note(request.actor, id, { topic, bytes: payload.length, ...(sequence && { sequence }) }).catch(
        (error: unknown) =>
          log.error(
            { event: 'audit_failed', action: 'device.command', reason: messageOf(error) },
            'A command is not in the audit log',
          ),
      );
      logFor(log, request).info({ event: 'command_sent', device: id, topic, sequence }, 'A command was sent');
      return reply.code(200).send({ device: id, topic: where, ...answered });
    },
  );
}

function readPayload(body: { payload?: string; payload_base64?: string }): Buffer {
  if (body.payload !== undefined && body.payload_base64 !== undefined)
    throw invalidField('payload', 'does not go with payload_base64');
  if (body.payload_base64?.match(/^[A-Za-z0-9+/]*={0,2}$/) === null)
    throw invalidField('payload_base64', 'is no base64');
  const payload =
    body.payload_base64 === undefined
      ? Buffer.from(body.payload ?? '', 'utf8')
      : Buffer.from(body.payload_base64, 'base64');
  requirePayloadRoom(payload);
  return payload;
}

function toText(payload: Uint8Array): string | null {
  try {
    return strictUtf8.decode(payload);
  } catch {
    return null;
  }
}

function toProblem(id: string, { code, reason }: CommandFailure): ProblemError {
  const detail = `Device ${id}: ${reason}`;
  if (code === 408) return new ProblemError('DEVICE_SILENT', detail);
  if (code === 400) return invalidField('topic', `is refused: ${reason}`);
  if (code === 429) return unavailable(detail, 'Ask again when some of them are answered');
  if (code === 413) return unavailable(detail);
  return unavailable(
    detail,
    '`svc-mqtt device show` says whether it is connected; a command without a wait is kept for its session',
  );
}

function unavailable(detail: string, suggestion?: string): ProblemError {
  return new ProblemError('DEVICE_UNAVAILABLE', detail, { suggestion });
}
