import { toAuditJson } from '../../../api/audit-entry.js';
import { AuditEntry, AuditPage, AuditQuery } from '../../../api/audit-entry-schema.js';
import { requireTime } from '../fields.js';
import { answer, operation } from '../operation.js';
import { readPage } from '../paging.js';
import { invalidField } from '../problem.js';
import type { Queries } from '../queries.js';
import type { TypedApp } from '../typed-app.js';

/** Adds the route of the audit log. */
export function addAuditRoute(app: TypedApp, list: Queries['listAudit']): void {
  for (const schema of [AuditEntry, AuditPage]) app.addSchema(schema);
  app.get(
    '/audit',
    operation('operator', {
      tags: ['audit'],
      operationId: 'listAudit',
      summary: 'List who changed what',
      description:
        'Lists changes of devices, policies, claims and keys, and connections and sessions that were ended, newest first, a page at a time. Entries older than AUDIT_RETENTION_DAYS are deleted.',
      querystring: AuditQuery,
      response: answer(AuditPage, 'One page', 400),
    }),
    async (request, reply) => {
      const { device, since: text } = request.query;
      const since = text === undefined ? undefined : requireTime('since', text);
      const { page, next } = await readPage(
        request.query,
        ({ after, limit }) =>
          list({ device, since, before: after === undefined ? undefined : requireNumber(after), limit }),
        ({ id }) => String(id),
      );
      return reply.code(200).send({ entries: page.map(toAuditJson), next_cursor: next });
    },
  );
}

function requireNumber(key: string): number {
  if (/^\d{1,15}$/.test(key)) return Number(key);
  throw invalidField(
    'cursor',
    'is not a next_cursor of this route; leave it out to start with the first page',
  );
}
