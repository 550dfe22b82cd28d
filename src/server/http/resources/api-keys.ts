import type { Static } from 'typebox';
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
import { defaultPageLimit, refer } from '../../../api/schema.js';
import { checkApiKeyName, checkLifetime } from '../../../db/api-keys.js';
import type { Log } from '../../../log.js';
import { decodeCursor, makePage } from '../cursor.js';
import { requireTime } from '../fields.js';
import { createInputProblem, createProblem, ProblemError } from '../problem.js';
import type { Queries } from '../queries.js';
import { listProblems } from '../responses.js';
import type { TypedApp } from '../typed-app.js';

interface Options {
  readonly keys: Queries['keys'];
  /** Called with the id of a key that was revoked. */
  readonly onRevoked: (id: string) => void;
  readonly log: Log;
}

const tags = ['api-keys'];

/** Adds the routes of the keys, all of which are for operators. */
export function addApiKeyRoutes(app: TypedApp, options: Options): void {
  for (const schema of [NewApiKeyResponse, ApiKeyResponse, ApiKeyPage]) app.addSchema(schema);
  addCollectionRoutes(app, options);
  addRevokeRoute(app, options);
}

function addCollectionRoutes(app: TypedApp, { keys, log }: Options): void {
  app.post(
    '/api-keys',
    {
      config: { role: 'operator' },
      schema: {
        tags,
        operationId: 'createApiKey',
        summary: 'Make an API key',
        description:
          'Makes a key and shows it, once. From the first one on the API requires a key or API_TOKEN of everybody.',
        body: NewApiKeyRequest,
        response: {
          201: refer(NewApiKeyResponse, { description: 'The key, with its text' }),
          ...listProblems(400, 409, 413),
        },
      },
    },
    async (request, reply) => {
      const { name, role, expires_at: expiry } = request.body;
      const expiresAt = expiry === undefined ? undefined : requireTime('expires_at', expiry);
      requireSound({ name, expiresAt });
      const key = await keys.create(request.actor, { name, role, expiresAt });
      log.info(
        {
          event: 'api_key_created',
          name,
          id: key.id,
          role,
          actor: request.actor.name,
          remoteAddress: request.ip,
        },
        'An API key was made through the HTTP API',
      );
      return reply.code(201).send(toNewApiKeyJson(key));
    },
  );

  app.get(
    '/api-keys',
    {
      config: { role: 'operator' },
      schema: {
        tags,
        operationId: 'listApiKeys',
        summary: 'List API keys',
        description: 'Lists keys in order of name, a page at a time.',
        querystring: ApiKeyListQuery,
        response: { 200: refer(ApiKeyPage, { description: 'One page' }), ...listProblems(400) },
      },
    },
    async (request, reply) => reply.code(200).send(await readPage(keys, request.query)),
  );
}

function addRevokeRoute(app: TypedApp, { keys, onRevoked, log }: Options): void {
  app.delete(
    '/api-keys/:key',
    {
      config: { role: 'operator' },
      schema: {
        tags,
        operationId: 'revokeApiKey',
        summary: 'Revoke an API key',
        description:
          'Revokes a key for good: within a second it is refused everywhere. Revoking a revoked key changes nothing.',
        params: ApiKeyParams,
        response: { 204: { type: 'null', description: 'The key is revoked' }, ...listProblems(400, 404) },
      },
    },
    async (request, reply) => {
      const { key: nameOrId } = request.params;
      const result = await keys.revoke(request.actor, nameOrId);
      if (result === undefined) {
        const detail = `There is no API key with the name or id ${JSON.stringify(nameOrId)}`;
        throw new ProblemError(createProblem('API_KEY_NOT_FOUND', detail));
      }
      const { id, name } = result.key;
      onRevoked(id);
      if (result.outcome === 'revoked') {
        log.info(
          { event: 'api_key_revoked', name, id, actor: request.actor.name, remoteAddress: request.ip },
          'An API key was revoked through the HTTP API',
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
  if (faults.length > 0) throw new ProblemError(createInputProblem(faults));
}

async function readPage(
  keys: Queries['keys'],
  query: Static<typeof ApiKeyListQuery>,
): Promise<Static<typeof ApiKeyPage>> {
  const limit = query.limit ?? defaultPageLimit;
  const after = query.cursor === undefined ? undefined : readCursor(query.cursor);
  const rows = await keys.list({ state: query.state ?? 'active', after, limit: limit + 1 });
  const { page, next } = makePage(rows, limit, ({ id, name }) => `${id} ${name}`);
  return { api_keys: page.map(toApiKeyJson), next_cursor: next };
}

function readCursor(cursor: string): { id: string; name: string } {
  const text = decodeCursor(cursor);
  const space = text.indexOf(' ');
  return { id: text.slice(0, Math.max(0, space)), name: text.slice(space + 1) };
}
