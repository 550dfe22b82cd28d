import type { Static } from 'typebox';
import type { Actor } from '../../db/audit.js';
import { checkDeviceType } from '../../db/device-fields.js';
import { toDeviceJson, toNewDeviceJson } from '../../db/device-json.js';
import type { Device, DeviceState, NewDevice } from '../../db/devices.js';
import type { Log } from '../../log.js';
import { decodeCursor, encodeCursor } from './cursor.js';
import {
  DevicePage,
  DeviceParams,
  DeviceResponse,
  defaultPageLength,
  ListQuery,
  NewDeviceRequest,
  NewDeviceResponse,
} from './device-schemas.js';
import { createInputProblem, createProblem, ProblemError } from './problem.js';
import { listProblems, refer } from './responses.js';
import type { TypedApp } from './typed-app.js';

/** The device queries that the API makes, with the errors of their namesakes in `src/db/devices.ts`. */
export interface DeviceQueries {
  add(actor: Actor, type: string): Promise<NewDevice>;
  list(request: {
    type: string | undefined;
    state: DeviceState;
    after: string | undefined;
    limit: number;
  }): Promise<Device[]>;
  find(id: string): Promise<Device | undefined>;
  revoke(actor: Actor, id: string): Promise<'revoked' | 'already revoked' | 'unknown'>;
}

interface Options {
  readonly devices: DeviceQueries;
  readonly log: Log;
}

/** Adds the routes of the devices. */
export function addDeviceRoutes(app: TypedApp, options: Options): void {
  for (const schema of [NewDeviceResponse, DeviceResponse, DevicePage]) app.addSchema(schema);
  addCollectionRoutes(app, options);
  addItemRoutes(app, options);
}

const tags = ['devices'];

function addCollectionRoutes(app: TypedApp, { devices, log }: Options): void {
  app.post(
    '/devices',
    {
      config: { role: 'provisioner' },
      schema: {
        tags,
        operationId: 'addDevice',
        summary: 'Add a device',
        description:
          'Makes a device with a generated id and password. The body is read as JSON whatever its content type says.',
        body: NewDeviceRequest,
        response: {
          200: refer(NewDeviceResponse, { description: 'The device, with its password' }),
          ...listProblems(400, 413),
        },
      },
    },
    async (request, reply) => {
      const { type } = request.body;
      requireType(type);
      const device = await devices.add(request.actor, type);
      log.info(
        { event: 'device_added', device: device.id, remoteAddress: request.ip },
        'A device was added through the HTTP API',
      );
      return reply.code(200).send(toNewDeviceJson(device));
    },
  );

  app.get(
    '/devices',
    {
      config: { role: 'viewer' },
      schema: {
        tags,
        operationId: 'listDevices',
        summary: 'List devices',
        description: 'Lists devices in order of id, a page at a time.',
        querystring: ListQuery,
        response: { 200: refer(DevicePage, { description: 'One page' }), ...listProblems(400) },
      },
    },
    async (request, reply) => reply.code(200).send(await readPage(devices, request.query)),
  );
}

function addItemRoutes(app: TypedApp, { devices, log }: Options): void {
  app.get(
    '/devices/:id',
    {
      config: { role: 'viewer' },
      schema: {
        tags,
        operationId: 'getDevice',
        summary: 'Show a device',
        description: 'Shows a device, revoked or not.',
        params: DeviceParams,
        response: { 200: refer(DeviceResponse, { description: 'The device' }), ...listProblems(400, 404) },
      },
    },
    async (request, reply) => {
      const { id } = request.params;
      const device = canBeId(id) ? await devices.find(id) : undefined;
      if (device === undefined) throw new ProblemError(createUnknownProblem(id));
      return reply.code(200).send(toDeviceJson(device));
    },
  );

  app.delete(
    '/devices/:id',
    {
      config: { role: 'operator' },
      schema: {
        tags,
        operationId: 'revokeDevice',
        summary: 'Revoke a device',
        description:
          'Revokes a device for good: its connections are closed and it cannot connect again. Revoking a revoked device changes nothing.',
        params: DeviceParams,
        response: { 204: { type: 'null', description: 'The device is revoked' }, ...listProblems(400, 404) },
      },
    },
    async (request, reply) => {
      const { id } = request.params;
      const outcome = canBeId(id) ? await devices.revoke(request.actor, id) : 'unknown';
      if (outcome === 'unknown') throw new ProblemError(createUnknownProblem(id));
      if (outcome === 'revoked') {
        log.info(
          { event: 'device_revoked', device: id, remoteAddress: request.ip },
          'A device was revoked through the HTTP API',
        );
      }
      return reply.code(204).send(null);
    },
  );
}

async function readPage(
  devices: DeviceQueries,
  query: Static<typeof ListQuery>,
): Promise<Static<typeof DevicePage>> {
  const limit = query.limit ?? defaultPageLength;
  if (query.type !== undefined) requireType(query.type);
  const after = query.cursor === undefined ? undefined : decodeCursor(query.cursor);
  // One more than asked for shows whether there is a further page.
  const rows = await devices.list({
    type: query.type,
    state: query.state ?? 'active',
    after,
    limit: limit + 1,
  });
  const page = rows.slice(0, limit);
  const last = page.at(-1);
  const more = rows.length > limit && last !== undefined;
  return { devices: page.map(toDeviceJson), next_cursor: more ? encodeCursor(last.id) : null };
}

/** The rules that a schema cannot state: no control characters, well-formed Unicode. */
function requireType(type: string): void {
  const problem = checkDeviceType(type);
  if (problem !== undefined) throw new ProblemError(createInputProblem([{ field: 'type', problem }]));
}

/**
 * Whether the database can be asked for an id: PostgreSQL takes no U+0000. Stricter rules are not applied, since
 * devices converted from the Go service keep the ids that they have.
 */
function canBeId(id: string): boolean {
  return id !== '' && !id.includes('\0');
}

function createUnknownProblem(id: string) {
  return createProblem('DEVICE_NOT_FOUND', `There is no device with the id ${JSON.stringify(id)}`);
}
