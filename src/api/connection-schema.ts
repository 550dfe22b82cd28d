import Type from 'typebox';
import { sortFields } from './constants.js';
import { closed, count, optional, orNull, refer, time, timeOrNull } from './schema.js';

const summary = {
  id: Type.String({ description: 'Id of the connection', examples: ['5f21c0-1a'] }),
  replica: Type.String({ description: 'The replica that has it', examples: ['5f21c0'] }),
  device: Type.String({ description: 'Id of the device' }),
  type: Type.String({ description: 'Type of the device' }),
  client: Type.String({ description: 'Client id; any text that the client chose' }),
  address: Type.String({ description: 'Address and port of the peer', examples: ['192.0.2.7:50211'] }),
  transport: Type.String({ description: '`tcp`, `tls`, `ws` or `wss`' }),
  protocol: Type.String({ description: 'Version of MQTT', examples: ['3.1.1'] }),
  received: Type.Object(
    { qos0: Type.Number(), qos1: Type.Number(), qos2: Type.Number() },
    { ...closed, description: 'PUBLISH packets received, by QoS' },
  ),
  rate: orNull(Type.Number(), {
    description: 'PUBLISH packets a second over the last seconds; null until it was asked for a second ago',
  }),
  bytes_in: count('Bytes read from the socket'),
  bytes_out: count('Bytes written to the socket'),
  in_flight: count('Messages waiting for their store confirmation'),
  subscriptions: count('Subscriptions'),
  connected_at: time('When it was opened'),
  last_message_at: timeOrNull('When the last PUBLISH came; null: none did'),
};

export const ConnectionResponse = Type.Object(summary, { $id: 'Connection', ...closed });

/** How a replica took part in an answer. */
export const replicaFields = {
  replica: Type.String({ description: 'Its id', examples: ['5f21c0'] }),
  host: Type.String({ description: 'The name of its machine or container' }),
  version: Type.String({ description: 'Its version of svc-mqtt' }),
  ok: Type.Boolean({ description: 'It has answered; where not, nothing of it is in this answer' }),
  detail: orNull(Type.String(), { description: 'Why it has not; null: it has' }),
};

export const ReplicaResponse = Type.Object(replicaFields, { $id: 'Replica', ...closed });

export const ConnectionPageResponse = Type.Object(
  {
    at: time('When the page was made'),
    total: count('Connections of the replicas that answered'),
    matching: count('Those that the filter lets through'),
    connections: Type.Array(refer(ConnectionResponse)),
    replicas: Type.Array(refer(ReplicaResponse), { description: 'The replicas that were asked' }),
  },
  { $id: 'ConnectionPage', ...closed },
);

export const ConnectionDetailsResponse = Type.Object(
  {
    ...summary,
    at: time('When this was read'),
    keepalive_seconds: count('Keep alive that the client asked for; 0: none'),
    persistent_session: Type.Boolean({ description: 'The session outlives the connection' }),
    session_expiry_seconds: orNull(Type.Number(), {
      description: 'How long the session outlives the connection; null: it does not expire',
    }),
    receive_maximum: Type.Number({
      description: 'Messages of QoS 1 and 2 that the client takes before it acknowledges them',
    }),
    topic_alias_maximum: Type.Number({ description: 'Topic aliases that the client takes' }),
    will: Type.Union([
      Type.Object({ topic: Type.String(), qos: Type.Number(), retain: Type.Boolean() }, closed),
      Type.Null(),
    ]),
    held: Type.Boolean({ description: 'The client is not read at the moment: a bound is reached' }),
    waits: Type.Union(
      [
        Type.Object(
          {
            cause: Type.String({
              description: 'Stable key',
              examples: ['no_stream', 'timeout', 'nats_away'],
            }),
            detail: Type.String({ description: 'The same in words' }),
            subject: orNull(Type.String(), {
              description: 'Where the message that failed was sent; null: it is not about one',
            }),
            since: time('Since when'),
          },
          closed,
        ),
        Type.Null(),
      ],
      { description: 'Why messages of the client wait; null: none do, or they are merely under way' },
    ),
    unsent_bytes: count('Bytes that the client has not taken'),
    outgoing: Type.Object(
      {
        waiting: count('Messages waiting to be sent to the client'),
        waiting_bytes: count('Their bytes'),
        unacknowledged: count('Messages sent and not acknowledged'),
        dropped: count('Messages left out because too many waited'),
      },
      closed,
    ),
    subscribed_to: Type.Array(Type.Object({ filter: Type.String(), qos: Type.Number() }, closed)),
    last_topics: Type.Array(Type.String(), { description: 'Topics published to, the latest first' }),
    last_error: Type.Union([
      Type.Object({ at: time('When it happened'), detail: Type.String() }, closed),
      Type.Null(),
    ]),
  },
  { $id: 'ConnectionDetails', ...closed },
);

export const maxConnectionPage = 500;
export const defaultConnectionPage = 50;
const maxOffset = 10_000_000;
const maxTextLength = 256;

export const ConnectionQuery = optional({
  q: Type.String({
    maxLength: maxTextLength,
    description:
      'Only connections in whose device, type, client id, address, transport or protocol every word occurs',
  }),
  device: Type.String({ minLength: 1, description: 'Only connections of this device' }),
  type: Type.String({ minLength: 1, description: 'Only devices of this type' }),
  replica: Type.String({
    minLength: 1,
    description: 'Only connections of this replica, which alone is asked',
  }),
  sort: Type.Enum([...sortFields], { type: 'string', default: 'rate', description: 'What to sort by' }),
  order: Type.Enum(['asc', 'desc'], {
    type: 'string',
    default: 'desc',
    description: 'Smallest or largest first',
  }),
  offset: Type.Integer({
    minimum: 0,
    maximum: maxOffset,
    default: 0,
    description: 'How many of the sorted connections to leave out',
  }),
  limit: Type.Integer({
    minimum: 1,
    maximum: maxConnectionPage,
    default: defaultConnectionPage,
    description: 'Most connections on the page',
  }),
});

export const ConnectionParams = Type.Object({
  id: Type.String({ minLength: 1, description: 'Id of the connection, as the list has it' }),
});
