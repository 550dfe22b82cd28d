import Type from 'typebox';
import { listProblems, operation } from '../operation.js';
import type { TypedApp } from '../typed-app.js';

/** Reads the metrics of the replica in the text format of Prometheus. */
export type ReadMetrics = () => Promise<{ readonly contentType: string; readonly text: string }>;

/**
 * Adds the route that Prometheus asks. It is protected like the others: the numbers tell how large a fleet is and when
 * it is in trouble.
 */
export function addMetricsRoute(app: TypedApp, readMetrics: ReadMetrics): void {
  app.get(
    '/metrics',
    operation('viewer', {
      tags: ['metrics'],
      operationId: 'getMetrics',
      summary: 'Metrics of this replica',
      description: 'In the text format of Prometheus. No label names a device, a client or an address.',
      response: {
        200: {
          description: 'The metrics',
          content: { 'text/plain': { schema: Type.String() } },
        },
        ...listProblems(),
      },
    }),
    async (_request, reply) => {
      const { contentType, text } = await readMetrics();
      return reply.header('content-type', contentType).send(text);
    },
  );
}
