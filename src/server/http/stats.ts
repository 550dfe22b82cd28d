import { refer } from '../../api/schema.js';
import { hideCredentials, type StatsJson } from '../../api/stats.js';
import { StatsResponse } from '../../api/stats-schema.js';
import { listProblems } from './responses.js';
import type { TypedApp } from './typed-app.js';

/** Adds the route that tells how this replica is doing. */
export function addStatsRoute(app: TypedApp, view: { readStats(): Promise<StatsJson> }): void {
  app.addSchema(StatsResponse);
  app.get(
    '/stats',
    {
      config: { role: 'viewer' },
      schema: {
        tags: ['stats'],
        operationId: 'getStats',
        summary: 'How this replica is doing',
        description:
          'Traffic, latency, what it depends on and what went wrong, with the last minute of traffic.',
        response: { 200: refer(StatsResponse, { description: 'The numbers' }), ...listProblems() },
      },
    },
    async (_request, reply) => {
      return reply.code(200).send(hideCredentials(await view.readStats()));
    },
  );
}
