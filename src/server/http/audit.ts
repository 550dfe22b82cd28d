import Type from 'typebox';
import { type AuditRecord, listAudit, toAuditJson } from '../../db/audit-log.js';
import type { Database } from '../../db/open.js';
import { decodeCursor, makePage } from './cursor.js';
import { requireTime, timeField } from './fields.js';
import { cursorParameter, defaultPageLimit, nextCursor, pageLimit } from './paging-schemas.js';
import { createInputProblem, ProblemError } from './problem.js';
import { listProblems, refer } from './responses.js';
import type { TypedApp } from './typed-app.js';

/** The query that the API makes, with the errors of `listAudit`. */
export type ListAudit = (request: {
  device: string | undefined;
  since: Date | undefined;
  before: number | undefined;
  limit: number;
}) => Promise<AuditRecord[]>;

export function bindAuditQuery(db: Database): ListAudit {
  return (request) => listAudit(db, request);
}

const closed = { additionalProperties: false };
const time = (description: string) =>
  Type.String({ format: 'date-time', description, examples: ['2026-01-31T12:00:00.000Z'] });

const AuditEntry = Type.Object(
  {
    id: Type.Integer({ description: 'Its number: a later change has a greater one' }),
    at: time('When it was made'),
    actor_kind: Type.String({
      description:
        '`cli`: a command; `api-key`; `api-token`: who has API_TOKEN; `local`: the API without keys; `claim`; `server`',
      examples: ['api-key'],
    }),
    actor: Type.String({
      description: "The key's name, the user of the machine, the claim's id",
      examples: ['ci'],
    }),
    address: Type.Union([Type.String(), Type.Null()], {
      description: "The peer's address; null: it was made by a command",
    }),
    action: Type.String({ description: 'What was done', examples: ['device.revoke'] }),
    target: Type.String({ description: "To what: a device's id, a device type, a key's name, a claim's id" }),
    details: Type.Record(Type.String(), Type.Unknown(), { description: 'More about it; never a secret' }),
  },
  { $id: 'AuditEntry', ...closed },
);

const AuditPage = Type.Object(
  {
    entries: Type.Array(refer(AuditEntry)),
    next_cursor: nextCursor,
  },
  { $id: 'AuditPage', ...closed },
);

const AuditQuery = Type.Object(
  {
    device: Type.Optional(
      Type.String({
        minLength: 1,
        description: 'Only what was done to the device with this id, or to its connections',
      }),
    ),
    since: Type.Optional(timeField('Only changes since then')),
    limit: Type.Optional(pageLimit('entries')),
    cursor: Type.Optional(cursorParameter),
  },
  closed,
);

/** Adds the route of the audit log. */
export function addAuditRoute(app: TypedApp, list: ListAudit): void {
  for (const schema of [AuditEntry, AuditPage]) app.addSchema(schema);
  app.get(
    '/audit',
    {
      config: { role: 'operator' },
      schema: {
        tags: ['audit'],
        operationId: 'listAudit',
        summary: 'List who changed what',
        description:
          'Lists changes of devices, policies, claims and keys, and connections that were ended, newest first, a page at a time. Entries older than AUDIT_RETENTION_DAYS are deleted.',
        querystring: AuditQuery,
        response: { 200: refer(AuditPage, { description: 'One page' }), ...listProblems(400) },
      },
    },
    async (request, reply) => {
      const { device, since, cursor, limit = defaultPageLimit } = request.query;
      const rows = await list({
        device,
        since: since === undefined ? undefined : requireTime('since', since),
        before: cursor === undefined ? undefined : readCursor(cursor),
        limit: limit + 1,
      });
      const { page, next } = makePage(rows, limit, ({ id }) => String(id));
      return reply.code(200).send({ entries: page.map(toAuditJson), next_cursor: next });
    },
  );
}

function readCursor(cursor: string): number {
  const text = decodeCursor(cursor);
  if (/^\d{1,15}$/.test(text)) return Number(text);
  const problem = 'is not a next_cursor of this route; leave it out to start with the first page';
  throw new ProblemError(createInputProblem([{ field: 'cursor', problem }]));
}
