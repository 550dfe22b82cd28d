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
import { closed } from '../../api/schema.js';
import { StatsResponse } from '../../api/stats-schema.js';

/** What replicas ask and answer each other, in the forms of the API wherever it has them. */

/** Most connections of a page and before it that are compared: so many keys of a replica are about a megabyte. */
export const maxDepth = 60_000;

const id = Type.String({ minLength: 1, maxLength: 64 });
const text = Type.String({ maxLength: 1_024 });

const KeysRequest = Type.Object(
  {
    text: Type.Optional(text),
    device: Type.Optional(text),
    type: Type.Optional(text),
    sort: Type.Enum([...sortFields]),
    descending: Type.Boolean(),
    limit: Type.Integer({ minimum: 0, maximum: maxDepth }),
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

const Presence = Type.Object({
  replica: Type.String({ pattern: '^[0-9a-f]{6}$' }),
  host: Type.String({ maxLength: 255 }),
  version: Type.String({ maxLength: 64 }),
  /** All others are to say that they are there, too. */
  asks: Type.Optional(Type.Boolean()),
  leaves: Type.Optional(Type.Boolean()),
});
export type Presence = Static<typeof Presence>;

export const requests = {
  connections: Compile(ConnectionQuery),
  keys: Compile(KeysRequest),
  rows: Compile(Type.Object({ ids: Type.Array(id, { maxItems: maxConnectionPage }) }, closed)),
  connection: Compile(Type.Object({ id }, closed)),
  kick: Compile(KickRequest),
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
  kick: Compile(Type.Object({})),
};

export const presence = Compile(Presence);

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
