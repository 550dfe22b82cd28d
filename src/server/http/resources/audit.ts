import { toAuditJson } from '../../../api/audit-entry.js';
import { AuditEntry, AuditPage, AuditQuery } from '../../../api/audit-entry-schema.js';
import { defaultPageLimit, refer } from '../../../api/schema.js';
import { decodeCursor, makePage } from '../cursor.js';
import { requireTime } from '../fields.js';
import { createInputProblem, ProblemError } from '../problem.js';
import type { Queries } from '../queries.js';
import { listProblems } from '../responses.js';
import type { TypedApp } from '../typed-app.js';

/** Adds the route of the audit log. */
export function addAuditRoute(app: TypedApp, list: Queries['listAudit']): void {
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
          'Lists changes of devices, policies, claims and keys, and connections and sessions that were ended, newest first, a page at a time. Entries older than AUDIT_RETENTION_DAYS are deleted.',
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
