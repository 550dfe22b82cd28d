import type { Static } from 'typebox';
import { toDeviceJson, toNewDeviceJson } from '../../../api/device.js';
import {
  DeviceDetailsResponse,
  DevicePage,
  DeviceResponse,
  LedgerResponse,
  ListQuery,
  NewDeviceRequest,
  NewDeviceResponse,
  RotatedDeviceResponse,
} from '../../../api/device-schema.js';
import { defaultPageLimit, refer } from '../../../api/schema.js';
import {
  checkDeviceType,
  checkNewDeviceId,
  isStorable,
  parseTime,
} from '../../../db/devices/device-fields.js';
import type { DeviceSort } from '../../../db/devices/devices.js';
import { decodeCursor, makePage } from '../cursor.js';
import { requireField } from '../fields.js';
import { createInputProblem, ProblemError } from '../problem.js';
import { listProblems } from '../responses.js';
import type { TypedApp } from '../typed-app.js';
import {
  readMetadataFilter,
  requireExpiry,
  requireMetadata,
  requireNewType,
  requireType,
} from './device-input.js';
import { addDeviceItemRoutes } from './device-item.js';
import type { DeviceOptions, DeviceQueries, SortedPlace } from './device-queries.js';

/** Adds the routes of the devices. */
export function addDeviceRoutes(app: TypedApp, options: DeviceOptions): void {
  for (const schema of [
    NewDeviceResponse,
    DeviceResponse,
    LedgerResponse,
    DeviceDetailsResponse,
    DevicePage,
    RotatedDeviceResponse,
  ])
    app.addSchema(schema);
  addCollectionRoutes(app, options);
  addDeviceItemRoutes(app, options);
}

const tags = ['devices'];

function addCollectionRoutes(app: TypedApp, { devices, log }: DeviceOptions): void {
  app.post(
    '/devices',
    {
      config: { role: 'enroller' },
      schema: {
        tags,
        operationId: 'addDevice',
        summary: 'Add a device',
        description:
          'Makes a device with a generated password, and a generated id unless one is given. The body is read as JSON whatever its content type says.',
        body: NewDeviceRequest,
        response: {
          200: refer(NewDeviceResponse, { description: 'The device, with its password' }),
          ...listProblems(400, 409, 413),
        },
      },
    },
    async (request, reply) => {
      const { type, id, expires_at: expiry, metadata } = request.body;
      requireNewType(type);
      if (id !== undefined) requireField('id', checkNewDeviceId(id));
      const device = await devices.add(request.actor, {
        type,
        id,
        expiresAt: expiry === undefined ? undefined : requireExpiry(expiry),
        metadata: metadata === undefined ? undefined : requireMetadata(metadata),
      });
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
        description: 'Lists devices, a page at a time; in order of id unless asked otherwise.',
        querystring: ListQuery,
        response: { 200: refer(DevicePage, { description: 'One page' }), ...listProblems(400) },
      },
    },
    async (request, reply) => reply.code(200).send(await readPage(devices, request.query)),
  );
}

async function readPage(
  devices: DeviceQueries,
  query: Static<typeof ListQuery>,
): Promise<Static<typeof DevicePage>> {
  const limit = query.limit ?? defaultPageLimit;
  if (query.type !== undefined) requireType(query.type);
  // Made of what a type may be made of.
  if (query.id_prefix !== undefined) requireField('id_prefix', checkDeviceType(query.id_prefix));
  const sort = query.sort ?? 'id';
  const after = query.cursor === undefined ? undefined : readCursor(query.cursor, sort);
  const rows = await devices.list({
    idPrefix: query.id_prefix,
    type: query.type,
    state: query.state ?? 'active',
    metadata: query.metadata === undefined ? undefined : readMetadataFilter(query.metadata),
    sort,
    descending: query.order === 'desc',
    after,
    limit: limit + 1,
  });
  const { page, next } = makePage(rows, limit, ({ id, sortKey = '' }) =>
    sort === 'id' ? id : `${sortKey}${separator}${id}`,
  );
  return { devices: page.map(toDeviceJson), next_cursor: next };
}

/** Stands between key and id in a cursor; neither types nor times have it. */
const separator = '\u001f';

function readCursor(cursor: string, sort: DeviceSort): SortedPlace {
  const text = decodeCursor(cursor);
  if (sort === 'id') return { id: text, sortKey: text };
  const at = text.indexOf(separator);
  const [sortKey, id] = [text.slice(0, Math.max(0, at)), text.slice(at + 1)];
  const isSound = sort === 'type' ? isStorable(sortKey) : isStoredTime(sortKey);
  if (isSound && isStorable(id)) return { id, sortKey };
  throw new ProblemError(
    createInputProblem([{ field: 'cursor', problem: 'is not a next_cursor of a list in this order' }]),
  );
}

/** A time as PostgreSQL writes it, such as `2026-01-31 12:00:00.123456+00`. */
function isStoredTime(text: string): boolean {
  if (/^-?infinity$/.test(text)) return true;
  return parseTime(text.replace(/([+-]\d\d)$/, '$1:00')) !== undefined;
}
