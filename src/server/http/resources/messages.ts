import { DeviceParams } from '../../../api/device-schema.js';
import { toPassingMessageJson } from '../../../api/passing-message.js';
import type { Log } from '../../../log.js';
import { type PeekRefusal, type Peeks, peekRefusals } from '../../forward/peek.js';
import type { HttpLimits } from '../limits.js';
import { answerEvents } from '../operation.js';
import { ProblemError, tooManyRequests } from '../problem.js';
import { logFor } from '../request-log.js';
import type { TypedApp } from '../typed-app.js';
import { requireDevice } from './device-input.js';
import type { DeviceQueries } from './device-queries.js';

/**
 * Adds the stream of the messages of one device as they pass (server-sent events), for who looks what a device sends. It
 * keeps nothing: what comes faster than people read, or than the reader takes it, is left out and counted.
 */
export function addMessageRoute(
  app: TypedApp,
  options: {
    devices: Pick<DeviceQueries, 'find'>;
    /** Undefined: there is no NATS. */
    peeks: Peeks | undefined;
    limits: HttpLimits;
    log: Log;
  },
): void {
  const { devices, peeks, limits, log } = options;
  const open = new Set<() => void>();

  app.get(
    '/devices/:id/messages',
    {
      config: { role: 'operator' },
      // The head alone would be answered by a stream without content that never ends.
      exposeHeadRoute: false,
      schema: {
        tags: ['devices'],
        operationId: 'followMessages',
        summary: 'Follow the messages of a device',
        description:
          'Server-sent events: `message` for each message as it passes NATS, at most 50 a second, with a JSON object as data: `at`, `subject`, `topic` or null, `size` in bytes, and `payload_base64`, of a long payload the first 1,024 bytes; `missed` says how many were left out; `ended` says why no more come. Nothing is kept, and nothing of it acknowledged. Noted in the log.',
        params: DeviceParams,
        response: answerEvents(400, 404, 409, 429),
      },
    },
    async (request, reply) => {
      const device = await requireDevice(request.params.id, devices.find);
      const { raw } = reply;
      let left = 0;
      const write = (event: string, data: object): void => {
        raw.write(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`);
      };
      const missed = (count: number): void => {
        write('missed', { count: count + left });
        left = 0;
      };
      const end =
        peeks?.open(device, {
          message(message) {
            if (raw.writableLength > limits.maxEventStreamBytes) {
              left += 1;
              return;
            }
            if (left > 0) missed(0);
            write('message', toPassingMessageJson(message));
          },
          missed,
          ended(reason) {
            write('ended', { reason });
            raw.end();
          },
        }) ?? 'away';
      if (typeof end === 'string') throw refuse(end, device.id);
      reply.hijack();
      raw.on('error', () => {});
      // Who left while the device was looked up has closed already, and would be followed for good.
      if (raw.destroyed) return end();
      logFor(log, request).info(
        { event: 'messages_followed', device: device.id, by: request.actor.name },
        'The messages of a device are looked at',
      );
      const headers: Record<string, number | string | string[] | undefined> = reply.getHeaders();
      raw.writeHead(200, {
        ...headers,
        'content-type': 'text/event-stream; charset=utf-8',
        'x-accel-buffering': 'no',
      });
      raw.write(': svc-mqtt\n\n');
      const heartbeat = setInterval(() => raw.write(': alive\n\n'), limits.eventHeartbeatMs);
      const stop = () => raw.end();
      open.add(stop);
      raw.on('close', () => {
        end();
        clearInterval(heartbeat);
        open.delete(stop);
      });
    },
  );

  // Otherwise the streams would hold up the end of the server for as long as it waits for requests.
  app.addHook('preClose', async () => {
    for (const stop of open) stop();
  });
}

const advice: Readonly<Record<PeekRefusal, string>> = {
  away: 'Try again later',
  shared: 'Have {id} in the nats_subject of its policy, or in NATS_SUBJECT',
  many: 'Try again later',
};

function refuse(refusal: PeekRefusal, id: string): ProblemError {
  const detail = `The messages of ${id} cannot be followed: ${peekRefusals[refusal]}`;
  if (refusal === 'many') return tooManyRequests(detail, 10_000);
  return new ProblemError('DEVICE_UNAVAILABLE', detail, { suggestion: advice[refusal] });
}
