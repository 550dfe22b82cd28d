import Type from 'typebox';
import { ackLevels } from '../ack-level.js';
import { replicaFields } from './connection-schema.js';
import { FleetEventResponse } from './event-schema.js';
import { closed, orNull, refer, time } from './schema.js';

const traffic = {
  messages_in: Type.Number({ description: 'Messages from devices' }),
  messages_out: Type.Number({ description: 'Messages to devices' }),
  bytes_in: Type.Number({ description: 'Bytes of the payloads from devices' }),
  bytes_out: Type.Number({ description: 'Bytes of the payloads to devices' }),
};

const Part = Type.Object({ ok: Type.Boolean(), detail: Type.String() }, closed);
const numbers = Type.Array(Type.Number());

/** What a replica does, or all do together. */
const work = {
  connections: Type.Object(
    {
      open: Type.Number({ description: 'Sockets, also of clients that are not logged in' }),
      connected: Type.Number({ description: 'Clients' }),
      limit: Type.Number({ description: 'MAX_CONNECTIONS, or what the limit of open files allows' }),
    },
    closed,
  ),
  rates: Type.Object(traffic, { ...closed, description: 'A second, over the last seconds' }),
  totals: Type.Object(
    {
      ...traffic,
      stored: Type.Number({ description: 'Messages that NATS has confirmed' }),
      sent: Type.Number({ description: 'Messages of QoS 0 handed to NATS' }),
    },
    { ...closed, description: 'Since the start' },
  ),
  waiting: Type.Object(
    {
      messages: Type.Number(),
      bytes: Type.Number(),
      causes: Type.Array(
        Type.Object(
          {
            cause: Type.String(),
            detail: Type.String(),
            clients: Type.Number(),
            since: time('Since when'),
          },
          closed,
        ),
        { description: 'What clients wait for that NATS refuses or does not confirm, by cause' },
      ),
    },
    { ...closed, description: 'Waiting for a store confirmation' },
  ),
  ack_latency_ms: Type.Object(
    {
      p50: orNull(Type.Number()),
      p99: orNull(Type.Number()),
    },
    {
      ...closed,
      description:
        'From the arrival of a message until it is stored, of the last ten seconds; null: there were none',
    },
  ),
  failures: Type.Unsafe<Record<string, number>>({
    type: 'object',
    additionalProperties: { type: 'number' },
    description: 'What went wrong since the start, by kind',
  }),
  history: Type.Object(
    { messages_in: numbers, messages_out: numbers, bytes_in: numbers, bytes_out: numbers },
    { ...closed, description: 'The last minute, a number a second, the latest last' },
  ),
  recent_events: Type.Array(refer(FleetEventResponse), { description: 'The latest ones, the latest last' }),
};

export const StatsResponse = Type.Object(
  {
    at: time('When this was read'),
    version: Type.String(),
    replica: Type.String({ description: 'Which replica answers; every number is its own' }),
    replicas: orNull(Type.Number(), {
      description: 'Running replicas on the same database; null when the database does not tell',
    }),
    started_at: time('When the replica started'),
    uptime_seconds: Type.Number(),
    ...work,
    acknowledgement: orNull(
      Type.Object(
        {
          promised: Type.Enum([...ackLevels], { type: 'string', description: 'ACK_LEVEL' }),
          holds: Type.Boolean({ description: 'Acknowledgements are worth it now' }),
          level: Type.Enum([...ackLevels], { type: 'string', description: 'What they are worth now' }),
          why: Type.String({ description: 'Where and how messages are kept, in words' }),
        },
        closed,
      ),
      { description: 'What an acknowledgement is worth; null without JetStream' },
    ),
    nats: Part,
    database: Part,
  },
  { $id: 'Stats', ...closed },
);

export const FleetResponse = Type.Object(
  {
    at: time('When this was read'),
    replicas: Type.Array(
      Type.Object(
        {
          ...replicaFields,
          stats: orNull(refer(StatsResponse), { description: 'null: it has not answered' }),
        },
        closed,
      ),
    ),
    total: Type.Object(work, {
      ...closed,
      description: 'Sums of the replicas that answered; of latencies the longest',
    }),
  },
  { $id: 'Fleet', ...closed },
);
