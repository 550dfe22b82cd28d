import { replicaOf } from '../../api/connection.js';
import { defaultConnectionPage } from '../../api/connection-schema.js';
import { toLedgerJson } from '../../api/device.js';
import { toEventJson } from '../../api/event.js';
import { hideCredentials } from '../../api/stats.js';
import { SvcMqttError } from '../../errors.js';
import { type Question, QuestionRefused } from '../forward/fleet/fleet-link.js';
import type { LocalView, TakeTurn } from '../live.js';
import type { DeviceLedger } from '../operate/device-ledger.js';
import { createTokenBuckets } from '../token-buckets.js';
import { type Health, requests } from './wire.js';

/** Questions a second to this replica, all together: a page that somebody watches is two or three of them. */
const questionsPerSecond = 200;

interface Validator<T> {
  Check(value: unknown): value is T;
  Errors(value: unknown): readonly { instancePath: string; message: string }[];
}

/**
 * What this replica answers the others: what its API would, and no more. Who may publish to `svc-mqtt.fleet.>` in NATS may
 * ask, and kick.
 *
 * @param options.take for what holds up the event loop.
 */
export function openQuestions({
  view,
  ledger,
  readHealth,
  take,
}: {
  view: LocalView;
  ledger: Pick<DeviceLedger, 'unwritten'>;
  readHealth: () => Promise<Health>;
  take: TakeTurn;
}) {
  const { connections } = view;
  const rate = createTokenBuckets({
    capacity: questionsPerSecond,
    perSecond: questionsPerSecond,
    maxKeys: 1,
  });

  function question<T>(
    description: string,
    validator: Validator<T>,
    answer: (request: T, room: number) => unknown,
  ): Question {
    return {
      description,
      async answer(request, room) {
        if (rate.take('') > 0) throw new QuestionRefused(429, 'there are too many questions');
        if (!validator.Check(request)) throw new QuestionRefused(400, describe(validator.Errors(request)));
        try {
          return await answer(request, room);
        } catch (error) {
          if (error instanceof SvcMqttError && error.httpStatus < 500)
            throw new QuestionRefused(error.httpStatus, error.message);
          throw error;
        }
      },
    };
  }

  const absent = () => new QuestionRefused(404, 'there is no such connection');
  return {
    stats: question('How the replica is doing, as GET /stats', requests.nothing, async () =>
      hideCredentials(await view.readStats()),
    ),
    health: question(
      'Whether it can take devices, and the settings that all replicas should have alike',
      requests.nothing,
      readHealth,
    ),
    connections: question(
      'Its connections, with the parameters of GET /connections',
      requests.connections,
      (query) =>
        take(() => {
          const { q, device, type, sort = 'rate', order, offset = 0, limit = defaultConnectionPage } = query;
          const descending = order !== 'asc';
          const asked = { text: q, device, type, sort, descending, offset, limit };
          return { ...connections.list(asked), replicas: [] };
        }),
    ),
    'connection.keys': question(
      'What its connections are sorted by, for a page of all replicas',
      requests.keys,
      ({ text, device, type, offset = 0, ...request }, room) =>
        take(() => {
          const found = connections.keys({ ...request, text, device, type, offset });
          if (answerBytes + maxKeyBytes * found.keys.length <= room) return { ...found, whole: true };
          return { ...found, ...fitting(found.keys, room) };
        }),
    ),
    'connection.rows': question('Connections of these ids', requests.rows, ({ ids }, room) => {
      const found = new Map(connections.rows(ids).map((each) => [each.id, each]));
      const rows = [];
      let used = answerBytes;
      for (const [at, id] of ids.entries()) {
        const row = found.get(id);
        if (row === undefined) continue;
        used += bytesOf(row);
        if (used > room && rows.length > 0) return { rows, left: ids.length - at };
        rows.push(row);
      }
      return { rows, left: 0 };
    }),
    connection: question('A connection, as GET /connections/{id}', requests.connection, ({ id }) => {
      const found = connections.find(id);
      if (found === undefined) throw absent();
      return found;
    }),
    events: question('Its events after one of a number', requests.events, ({ after }, room) => {
      // Of too many the latest.
      const { keys } = fitting(view.events.since(after).map(toEventJson).reverse(), room);
      return { events: keys.toReversed() };
    }),
    command: question(
      'How far clients that are connected here are with a command',
      requests.command,
      ({ device, expires_at_ms: expiresAtMs, ...command }) => ({
        sessions: view.commands.here(device, { ...command, expiresAtMs: expiresAtMs ?? undefined }),
      }),
    ),
    ledger: question('What it has counted of a device and not written yet', requests.ledger, ({ device }) => {
      const noted = ledger.unwritten(device);
      return { ledger: noted === undefined ? null : toLedgerJson(noted) };
    }),
    kick: question('Ends a connection, as DELETE /connections/{id}', requests.kick, ({ id, actor }) => {
      if (replicaOf(id) !== view.replica || connections.kick(id, actor) === undefined) throw absent();
      return {};
    }),
  } satisfies Record<string, Question>;
}

/** What is beside the list in an answer. */
const answerBytes = 200;

/** Most bytes of a key of a connection: 64 characters, each of them escaped, a number, and an id. */
const maxKeyBytes = 600;

/** As many keys as there is room for. */
function fitting<T>(keys: readonly T[], room: number): { keys: readonly T[]; whole: boolean } {
  let used = answerBytes;
  for (const [at, key] of keys.entries()) {
    used += bytesOf(key);
    if (used > room) return { keys: keys.slice(0, at), whole: false };
  }
  return { keys, whole: true };
}

function bytesOf(value: unknown): number {
  return Buffer.byteLength(JSON.stringify(value)) + 1;
}

function describe(faults: readonly { instancePath: string; message: string }[]): string {
  const [fault] = faults;
  return `${fault?.instancePath.slice(1) || 'the request'} ${fault?.message ?? 'is not understood'}`;
}
