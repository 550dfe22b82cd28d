import { toApiKeyJson, toNewApiKeyJson } from '../../../api/api-key.js';
import {
  ApiKeyListQuery,
  ApiKeyPage,
  ApiKeyParams,
  ApiKeyResponse,
  NewApiKeyRequest,
  NewApiKeyResponse,
} from '../../../api/api-key-schema.js';
import type { FieldProblem } from '../../../api/problem.js';
import { checkApiKeyName, checkLifetime } from '../../../db/api-keys.js';
import type { Log } from '../../../log.js';
import { requireTime } from '../fields.js';
import { answer, answerDone, answerMade, operation } from '../operation.js';
import { readPage } from '../paging.js';
import { invalidInput, ProblemError } from '../problem.js';
import type { Queries } from '../queries.js';
import { logFor } from '../request-log.js';
import type { TypedApp } from '../typed-app.js';

interface Options {
  readonly keys: Queries['keys'];
  /** Called with the id of a key that was revoked. */
  readonly onRevoked: (id: string) => void;
  readonly log: Log;
}

const tags = ['api-keys'];

/** Adds the routes of the keys, all of which are for operators. */
export function addApiKeyRoutes(app: TypedApp, { keys, onRevoked, log }: Options): void {
  for (const schema of [NewApiKeyResponse, ApiKeyResponse, ApiKeyPage]) app.addSchema(schema);

  app.post(
    '/api-keys',
    operation('operator', {
      tags,
      operationId: 'createApiKey',
      summary: 'Make an API key',
      description:
        'Makes a key and shows it, once. From the first one on the API requires a key or API_TOKEN of everybody.',
      body: NewApiKeyRequest,
      response: answerMade(NewApiKeyResponse, 'The key, with its text', 400, 409, 413),
    }),
    async (request, reply) => {
      const { name, role, expires_at: expiry } = request.body;
      const expiresAt = expiry === undefined ? undefined : requireTime('expires_at', expiry);
      requireSound({ name, expiresAt });
      const key = await keys.create(request.actor, { name, role, expiresAt });
      logFor(log, request).info(
        { event: 'api_key_created', name, id: key.id, role, actor: request.actor.name },
        'An API key was made',
      );
      return reply.code(201).send(toNewApiKeyJson(key));
    },
  );

  app.get(
    '/api-keys',
    operation('operator', {
      tags,
      operationId: 'listApiKeys',
      summary: 'List API keys',
      description: 'Lists keys in order of name, a page at a time.',
      querystring: ApiKeyListQuery,
      response: answer(ApiKeyPage, 'One page', 400),
    }),
    async (request, reply) => {
      const { state = 'active' } = request.query;
      const { page, next } = await readPage(
        request.query,
        ({ after, limit }) =>
          keys.list({ state, after: after === undefined ? undefined : splitKey(after), limit }),
        ({ id, name }) => `${id} ${name}`,
      );
      return reply.code(200).send({ api_keys: page.map(toApiKeyJson), next_cursor: next });
    },
  );

  app.delete(
    '/api-keys/:key',
    operation('operator', {
      tags,
      operationId: 'revokeApiKey',
      summary: 'Revoke an API key',
      description:
        'Revokes a key for good: within a second it is refused everywhere. Revoking a revoked key changes nothing.',
      params: ApiKeyParams,
      response: answerDone('The key is revoked', 400, 404),
    }),
    async (request, reply) => {
      const { key: nameOrId } = request.params;
      const result = await keys.revoke(request.actor, nameOrId);
      if (result === undefined) {
        const detail = `There is no API key with the name or id ${JSON.stringify(nameOrId)}`;
        throw new ProblemError('API_KEY_NOT_FOUND', detail);
      }
      const { id, name } = result.key;
      onRevoked(id);
      if (result.outcome === 'revoked') {
        logFor(log, request).info(
          { event: 'api_key_revoked', name, id, actor: request.actor.name },
          'An API key was revoked',
        );
      }
      return reply.code(204).send(null);
    },
  );
}

/** The rules that a schema cannot state. */
function requireSound(request: { name: string; expiresAt: Date | undefined }): void {
  const faults: FieldProblem[] = [];
  const nameProblem = checkApiKeyName(request.name);
  if (nameProblem !== undefined) faults.push({ field: 'name', problem: nameProblem });
  const expiryProblem = request.expiresAt === undefined ? undefined : checkLifetime(request.expiresAt);
  if (expiryProblem !== undefined) faults.push({ field: 'expires_at', problem: expiryProblem });
  if (faults.length > 0) throw invalidInput(faults);
}

function splitKey(key: string): { id: string; name: string } {
  const space = key.indexOf(' ');
  return { id: key.slice(0, Math.max(0, space)), name: key.slice(space + 1) };
}
