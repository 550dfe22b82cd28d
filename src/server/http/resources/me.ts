import { toMeJson } from '../../../api/me.js';
import { MeResponse } from '../../../api/me-schema.js';
import { refer } from '../../../api/schema.js';
import { listProblems } from '../responses.js';
import type { TypedApp } from '../typed-app.js';

/** Adds the route that tells a caller who it is to the API. */
export function addMeRoute(app: TypedApp): void {
  app.addSchema(MeResponse);
  app.get(
    '/me',
    {
      config: { role: 'any' },
      schema: {
        tags: ['api-keys'],
        operationId: 'getMe',
        summary: 'Who one is, and what one may do',
        description:
          'Tells the name and the role of the key that is shown, and which roles it has the rights of.',
        response: { 200: refer(MeResponse, { description: 'The caller' }), ...listProblems() },
      },
    },
    async ({ actor, role }, reply) => reply.code(200).send(toMeJson(actor, role)),
  );
}
