import { toMeJson } from '../../../api/me.js';
import { MeResponse } from '../../../api/me-schema.js';
import { answer, operation } from '../operation.js';
import type { TypedApp } from '../typed-app.js';

/** Adds the route that tells a caller who it is to the API. */
export function addMeRoute(app: TypedApp): void {
  app.addSchema(MeResponse);
  app.get(
    '/me',
    operation('any', {
      tags: ['api-keys'],
      operationId: 'getMe',
      summary: 'Who one is, and what one may do',
      description:
        'Tells the name and the role of the key that is shown, and which roles it has the rights of.',
      response: answer(MeResponse, 'The caller'),
    }),
    async ({ actor, role }, reply) => reply.code(200).send(toMeJson(actor, role)),
  );
}
