import { setTimeout as sleep } from 'node:timers/promises';
import Type, { type Static } from 'typebox';
import { refer } from '../../../api/schema.js';
import { messageOf } from '../../../errors.js';
import type { Log } from '../../../log.js';
import type { TypedApp } from '../typed-app.js';

/** How one of the parts that a replica needs stands; `detail` says so in words, without credentials. */
export interface PartReadiness {
  readonly ok: boolean;
  readonly detail: string;
  /** False: the replica takes devices without it. */
  readonly needed?: boolean;
}

/** How the parts stand that a replica needs to take devices. */
export interface Readiness {
  readonly database: PartReadiness;
  readonly nats: PartReadiness;
  readonly storage: PartReadiness;
  readonly listeners: PartReadiness;
}

export type ReadReadiness = () => Promise<Readiness> | Readiness;

const Part = Type.Object(
  {
    status: Type.Enum(['ok', 'failed'], { type: 'string' }),
    detail: Type.String({ description: 'The same in words', examples: ['connected'] }),
  },
  { additionalProperties: false },
);

const ReadinessResponse = Type.Object(
  {
    status: Type.Enum(['ok', 'failed'], {
      type: 'string',
      description: '`ok` when every part is; `storage` counts with `READY_NEEDS_STORAGE=true` only',
    }),
    database: Part,
    nats: Part,
    storage: Part,
    listeners: Part,
  },
  { $id: 'Readiness', additionalProperties: false },
);

const HealthResponse = Type.Object(
  { status: Type.Enum(['ok'], { type: 'string' }) },
  { $id: 'Health', additionalProperties: false },
);

/** Adds the routes that probes ask. They need no token and tell no secret. */
export function addHealthRoutes(
  app: TypedApp,
  options: { readiness: ReadReadiness; timeoutMs: number; log: Log },
): void {
  for (const schema of [HealthResponse, ReadinessResponse]) app.addSchema(schema);
  const common = { tags: ['health'], security: [] };

  app.get(
    '/healthz',
    {
      config: { access: 'public' },
      schema: {
        ...common,
        operationId: 'getHealth',
        summary: 'Whether the process lives',
        description: 'Answers as long as the process does, whatever the state of what it needs.',
        response: { 200: refer(HealthResponse, { description: 'The process lives' }) },
      },
    },
    async (_request, reply) => reply.code(200).send({ status: 'ok' }),
  );

  app.get(
    '/readyz',
    {
      config: { access: 'public' },
      schema: {
        ...common,
        operationId: 'getReadiness',
        summary: 'Whether the replica can take devices',
        description:
          'Names the database, NATS, whether it stores messages, and the listeners, and how each stands.',
        response: {
          200: refer(ReadinessResponse, { description: 'Every part that the replica needs is in order' }),
          503: refer(ReadinessResponse, { description: 'A part is not, or the replica is shutting down' }),
        },
      },
    },
    async (_request, reply) => {
      const response = showReadiness(await readReadiness(options));
      return reply.code(response.status === 'ok' ? 200 : 503).send(response);
    },
  );
}

async function readReadiness(options: {
  readiness: ReadReadiness;
  timeoutMs: number;
  log: Log;
}): Promise<Readiness> {
  const late = new AbortController();
  const failAll = (detail: string): Readiness => {
    const part = { ok: false, detail };
    return { database: part, nats: part, storage: part, listeners: part };
  };
  try {
    return await Promise.race([
      options.readiness(),
      sleep(options.timeoutMs, failAll('the check did not end in time'), { signal: late.signal }),
    ]);
  } catch (error) {
    options.log.error(
      { event: 'readiness_failed', reason: messageOf(error) },
      'The readiness of the replica could not be read',
    );
    return failAll('the check failed; the log says why');
  } finally {
    late.abort();
  }
}

/** How the parts stand, for anyone who asks. */
export function showReadiness(readiness: Readiness): Static<typeof ReadinessResponse> {
  const { database, nats, storage, listeners } = readiness;
  const ready = [database, nats, storage, listeners].every(({ ok, needed = true }) => ok || !needed);
  return {
    status: ready ? 'ok' : 'failed',
    database: showPart(database),
    nats: showPart(nats),
    storage: showPart(storage),
    listeners: showPart(listeners),
  };
}

function showPart(part: PartReadiness): Static<typeof Part> {
  // Anyone may ask, so credentials in an address are taken out here whoever wrote the detail.
  const detail = part.detail.replace(/\/\/[^/@\s]+@/g, '//');
  return { status: part.ok ? 'ok' : 'failed', detail };
}
