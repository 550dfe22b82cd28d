import type { ServerResponse } from 'node:http';
import type { EventJson } from '../../../api/event.js';
import { EventQuery, FleetEventResponse } from '../../../api/event-schema.js';
import type { Log } from '../../../log.js';
import type { EventListener, FleetEvents } from '../../live.js';
import type { HttpLimits } from '../limits.js';
import { answerEvents } from '../operation.js';
import { tooManyRequests } from '../problem.js';
import type { TypedApp } from '../typed-app.js';

/** Events of one moment leave in one write: in a storm there are ten thousands. */
const gatherMs = 50;
const retryMs = 2_000;

/**
 * Adds the stream of events (server-sent events, https://html.spec.whatwg.org/multipage/server-sent-events.html). Who
 * comes back with Last-Event-ID gets what it missed, as far as that is remembered; a gap is told by an event `missed`.
 * Who reads so slowly that the bound of its buffer is reached is cut off, which is counted.
 */
export function addEventRoute(
  app: TypedApp,
  options: {
    events: FleetEvents;
    replica: string;
    limits: HttpLimits;
    log: Log;
  },
): void {
  const { events, replica, limits, log } = options;
  app.addSchema(FleetEventResponse);
  /** With the caller of each. */
  const streams = new Map<ReturnType<typeof openEventStream>, string>();

  app.get(
    '/events',
    {
      config: { role: 'viewer' },
      // The head alone would be answered by a stream without content that never ends.
      exposeHeadRoute: false,
      schema: {
        tags: ['events'],
        operationId: 'followEvents',
        summary: 'Follow what happens',
        description:
          'Server-sent events of all replicas: connected, disconnected, refused, revoked and dropped, each with a JSON object as data that names its replica, and a comment as heartbeat. After `Last-Event-ID` it goes on, on whatever replica; `missed` says how many events could not be sent.',
        querystring: EventQuery,
        response: answerEvents(400, 429),
      },
    },
    (request, reply) => {
      if (streams.size >= limits.maxEventStreams) {
        throw tooManyRequests(
          `${limits.maxEventStreams} streams of events are open, which is the limit`,
          10_000,
        );
      }
      const { caller } = request;
      const own = [...streams.values()].filter((other) => other === caller).length;
      if (own >= limits.maxEventStreamsPerCaller) {
        throw tooManyRequests(
          `${own} streams of events are open ${describeCaller(caller)}, which is the limit`,
          10_000,
        );
      }
      const { kind, device, replica: only } = request.query;
      reply.hijack();
      // Who left while the key was looked up has closed already, and would be kept as a reader for good.
      if (reply.raw.destroyed) return;
      const stream = openEventStream({
        response: reply.raw,
        headers: reply.getHeaders(),
        limits,
        replica,
        wants: (event) =>
          (kind === undefined || event.kind === kind) &&
          (device === undefined || event.device === device) &&
          (only === undefined || event.replica === only),
        onSlow() {
          events.noteCutOff();
          log.warn(
            { event: 'event_listener_dropped', remoteAddress: request.ip },
            'A reader of events was too slow and is cut off',
          );
        },
        onClose() {
          unlisten();
          streams.delete(stream);
        },
      });
      streams.set(stream, caller);
      const lastId = request.headers['last-event-id'];
      const unlisten = events.listen(stream, typeof lastId === 'string' ? lastId : undefined);
    },
  );

  // Otherwise the streams would hold up the end of the server for as long as it waits for requests.
  app.addHook('preClose', async () => {
    for (const stream of streams.keys()) stream.end();
  });
}

function openEventStream(options: {
  response: ServerResponse;
  headers: Record<string, number | string | string[] | undefined>;
  limits: HttpLimits;
  replica: string;
  wants(event: EventJson): boolean;
  onSlow(): void;
  onClose(): void;
}): EventListener & { end(): void } {
  const { response, limits, replica } = options;
  let waiting = '';
  let timer: NodeJS.Timeout | undefined;
  let ended = false;

  function write(text: string): void {
    if (ended) return;
    response.write(text);
    if (response.writableLength <= limits.maxEventStreamBytes) return;
    ended = true;
    options.onSlow();
    // One that waits behind another response has no socket of its own yet.
    response.req.socket.destroy();
  }

  function flush(): void {
    timer = undefined;
    const text = waiting;
    waiting = '';
    write(text);
  }

  function push(text: string): void {
    if (ended) return;
    waiting += text;
    if (waiting.length > limits.maxEventStreamBytes) flush();
    else timer ??= setTimeout(flush, gatherMs);
  }

  response.writeHead(200, {
    ...options.headers,
    'content-type': 'text/event-stream; charset=utf-8',
    // Proxies that gather answers would hold the events back.
    'x-accel-buffering': 'no',
  });
  write(`retry: ${retryMs}\n: svc-mqtt ${replica}\n\n`);
  const heartbeat = setInterval(() => write(': alive\n\n'), limits.eventHeartbeatMs);
  response.on('error', () => {});
  response.on('close', () => {
    ended = true;
    clearInterval(heartbeat);
    clearTimeout(timer);
    options.onClose();
  });

  return {
    onEvent(event, id) {
      if (options.wants(event)) push(`id: ${id}\nevent: ${event.kind}\ndata: ${JSON.stringify(event)}\n\n`);
    },
    onMissed: (count) => push(`event: missed\ndata: {"count":${count}}\n\n`),
    end() {
      if (timer !== undefined) flush();
      ended = true;
      response.end();
    },
  };
}

function describeCaller(caller: string): string {
  if (caller === 'local') return 'without a key';
  return caller === 'API_TOKEN' ? 'with API_TOKEN' : 'with this key';
}
