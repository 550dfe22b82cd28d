import { hideCredentials } from '../../../api/stats.js';
import { FleetResponse, StatsResponse } from '../../../api/stats-schema.js';
import type { ReplicaView } from '../../live.js';
import { answer, operation } from '../operation.js';
import type { TypedApp } from '../typed-app.js';

/** Adds the routes that tell how this replica is doing, and how all are. */
export function addStatsRoute(app: TypedApp, view: Pick<ReplicaView, 'readStats' | 'readFleet'>): void {
  for (const schema of [StatsResponse, FleetResponse]) app.addSchema(schema);
  app.get(
    '/stats',
    operation('viewer', {
      tags: ['stats'],
      operationId: 'getStats',
      summary: 'How this replica is doing',
      description:
        'Traffic, latency, what it depends on and what went wrong, with the last minute of traffic.',
      response: answer(StatsResponse, 'The numbers'),
    }),
    async (_request, reply) => reply.code(200).send(hideCredentials(await view.readStats())),
  );

  app.get(
    '/fleet',
    operation('viewer', {
      tags: ['stats'],
      operationId: 'getFleet',
      summary: 'How all replicas are doing',
      description:
        'What `GET /stats` of each replica answers, and the sums. One that does not answer within half a second is named with `ok` false and counts in no sum.',
      response: answer(FleetResponse, 'The numbers'),
    }),
    async (_request, reply) => reply.code(200).send(await view.readFleet()),
  );
}
