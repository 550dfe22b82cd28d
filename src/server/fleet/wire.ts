import Type, { type Static, type TSchema } from 'typebox';
import { Compile } from 'typebox/compile';
import type { ConnectionKey } from '../../api/connection.js';
import {
  ConnectionDetailsResponse,
  ConnectionPageResponse,
  ConnectionQuery,
  ConnectionResponse,
  maxConnectionPage,
} from '../../api/connection-schema.js';
import { sortFields } from '../../api/constants.js';
import { LedgerResponse } from '../../api/device-schema.js';
import { FleetEventResponse } from '../../api/event-schema.js';
import { closed } from '../../api/schema.js';
import { StatsResponse } from '../../api/stats-schema.js';
import { sessionCommandStates } from '../../command-state.js';

/** What replicas ask and answer each other, in the forms of the API wherever it has them. */

/** Most connections whose keys are asked for at a time: so many are about a megabyte. */
const maxKeys = 60_000;

const id = Type.String({ minLength: 1, maxLength: 64 });
const text = Type.String({ maxLength: 1_024 });
/** Most events that are told or remembered together. */
export const maxBatch = 1_024;
const replicaName = Type.String({ pattern: '^[0-9a-f]{6}$' });
const someEvents = Type.Array(Type.Unknown(), { maxItems: maxBatch });
const eventNumber = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER });

const KeysRequest = Type.Object(
  {
    text: Type.Optional(text),
    device: Type.Optional(text),
    type: Type.Optional(text),
    sort: Type.Enum([...sortFields]),
    descending: Type.Boolean(),
    offset: Type.Optional(Type.Integer({ minimum: 0 })),
    limit: Type.Integer({ minimum: 0, maximum: maxKeys }),
    samples: Type.Optional(Type.Integer({ minimum: 1, maximum: maxKeys })),
  },
  closed,
);

const KeysAnswer = Type.Object({
  total: Type.Integer({ minimum: 0 }),
  matching: Type.Integer({ minimum: 0 }),
  keys: Type.Unsafe<ConnectionKey[]>(
    Type.Array(Type.Tuple([Type.Union([Type.String(), Type.Number(), Type.Null()]), Type.Number(), id])),
  ),
  /** False: there was room for no more of those asked for. */
  whole: Type.Boolean(),
});
export type KeysAnswer = Static<typeof KeysAnswer>;

const KickRequest = Type.Object(
  {
    id,
    actor: Type.Object(
      {
        kind: Type.Enum(['cli', 'api-key', 'api-token', 'local', 'claim', 'server']),
        name: text,
        address: Type.Optional(text),
      },
      closed,
    ),
  },
  closed,
);

/** A command, with what of it decides how far a session is. */
const AskedCommandRequest = Type.Object(
  {
    device: text,
    sequence: Type.Integer({ minimum: 1 }),
    topic: Type.String({ maxLength: 65_535 }),
    qos: Type.Union([Type.Literal(0), Type.Literal(1)]),
    expires_at_ms: Type.Union([Type.Number(), Type.Null()]),
  },
  closed,
);

const CommandAnswer = Type.Object({
  sessions: Type.Array(
    Type.Object({
      client: Type.String(),
      connected: Type.Boolean(),
      state: Type.Enum([...sessionCommandStates]),
      qos: Type.Union([Type.Literal(0), Type.Literal(1)]),
    }),
  ),
});

const identity = {
  replica: replicaName,
  host: Type.String({ maxLength: 255 }),
  version: Type.String({ maxLength: 64 }),
};

const Presence = Type.Object({
  ...identity,
  /** All others are to say that they are there, too. */
  asks: Type.Optional(Type.Boolean()),
  leaves: Type.Optional(Type.Boolean()),
  /** Somebody follows the events of all replicas there; said again every few seconds as long as it is so. */
  follows: Type.Optional(Type.Boolean()),
});
export type Presence = Static<typeof Presence>;

const Part = Type.Object({ status: Type.String(), detail: Type.String() });

/** What a replica says of itself to who examines all of them. */
const Health = Type.Object({
  ...identity,
  at: Type.String(),
  /** As `GET /readyz`. */
  readiness: Type.Record(Type.String(), Type.Union([Type.String(), Part])),
  /** Those that all replicas should have alike, by their variables. */
  settings: Type.Record(Type.String(), Type.String()),
  /** The other replicas that it knows. */
  others: Type.Array(Type.Object(identity)),
});
export type Health = Static<typeof Health>;

export const requests = {
  connections: Compile(ConnectionQuery),
  keys: Compile(KeysRequest),
  rows: Compile(Type.Object({ ids: Type.Array(id, { maxItems: maxConnectionPage }) }, closed)),
  connection: Compile(Type.Object({ id }, closed)),
  command: Compile(AskedCommandRequest),
  ledger: Compile(Type.Object({ device: text }, closed)),
  kick: Compile(KickRequest),
  events: Compile(Type.Object({ after: eventNumber }, closed)),
  nothing: Compile(Type.Object({}, closed)),
};

const connection = loosen(ConnectionResponse);

/** A newer replica may answer with more than is known here. */
export const answers = {
  connections: Compile(
    Type.Object({ ...loosen(ConnectionPageResponse).properties, connections: Type.Array(connection) }),
  ),
  keys: Compile(KeysAnswer),
  /** `left`: so many of the ids, the last ones, were not looked up for want of room. */
  rows: Compile(Type.Object({ rows: Type.Array(connection), left: Type.Integer({ minimum: 0 }) })),
  connection: Compile(loosen(ConnectionDetailsResponse)),
  stats: Compile(loosen(StatsResponse)),
  command: Compile(CommandAnswer),
  ledger: Compile(Type.Object({ ledger: Type.Union([loosen(LedgerResponse), Type.Null()]) })),
  kick: Compile(Type.Object({})),
  health: Compile(Health),
  /** The latest of those asked for, oldest first, as many as there was room for. */
  events: Compile(Type.Object({ events: someEvents })),
};

export const presence = Compile(Presence);

/** Events of a replica, and the number of its latest one. */
export const eventBatch = Compile(
  Type.Object({ replica: replicaName, events: someEvents, last: eventNumber }),
);
export const fleetEvent = Compile(loosen(FleetEventResponse));

/** The same schema for objects that have more fields. What it refers to by name is not looked at. */
function loosen<S extends TSchema>(schema: S): S {
  return JSON.parse(
    JSON.stringify(schema, (key, value: unknown) => {
      if (key === 'additionalProperties' && value === false) return undefined;
      if (key === '$id') return undefined;
      return typeof value === 'object' && value !== null && '$ref' in value ? {} : value;
    }),
  ) as S;
}
