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
import {
  checkDeviceType,
  checkNewDeviceId,
  isStorable,
  parseTime,
} from '../../../db/devices/device-fields.js';
import type { DeviceSort } from '../../../db/devices/devices.js';
import { requireField } from '../fields.js';
import { answer, operation } from '../operation.js';
import { readPage } from '../paging.js';
import { invalidField } from '../problem.js';
import { logFor } from '../request-log.js';
import type { TypedApp } from '../typed-app.js';
import {
  readMetadataFilter,
  requireExpiry,
  requireMetadata,
  requireNewType,
  requireType,
} from './device-input.js';
import { addDeviceItemRoutes } from './device-item.js';
import type { DeviceOptions, SortedPlace } from './device-queries.js';

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
    operation('enroller', {
      tags,
      operationId: 'addDevice',
      summary: 'Add a device',
      description:
        'Makes a device with a generated password, and a generated id unless one is given. The body is read as JSON whatever its content type says.',
      body: NewDeviceRequest,
      response: answer(NewDeviceResponse, 'The device, with its password', 400, 409, 413),
    }),
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
      logFor(log, request).info({ event: 'device_added', device: device.id }, 'A device was added');
      return reply.code(200).send(toNewDeviceJson(device));
    },
  );

  app.get(
    '/devices',
    operation('viewer', {
      tags,
      operationId: 'listDevices',
      summary: 'List devices',
      description: 'Lists devices, a page at a time; in order of id unless asked otherwise.',
      querystring: ListQuery,
      response: answer(DevicePage, 'One page', 400),
    }),
    async (request, reply) => {
      const { type, id_prefix: idPrefix, metadata, state = 'active', sort = 'id', order } = request.query;
      if (type !== undefined) requireType(type);
      // Made of what a type may be made of.
      if (idPrefix !== undefined) requireField('id_prefix', checkDeviceType(idPrefix));
      const filter = {
        idPrefix,
        type,
        state,
        metadata: metadata === undefined ? undefined : readMetadataFilter(metadata),
      };
      const { page, next } = await readPage(
        request.query,
        ({ after: key, limit }) => {
          const after = key === undefined ? undefined : requirePlace(key, sort);
          return devices.list({ ...filter, sort, descending: order === 'desc', after, limit });
        },
        ({ id, sortKey = '' }) => (sort === 'id' ? id : `${sortKey}${separator}${id}`),
      );
      return reply.code(200).send({ devices: page.map(toDeviceJson), next_cursor: next });
    },
  );
}

/** Stands between key and id in a cursor; neither types nor times have it. */
const separator = '\u001f';

function requirePlace(key: string, sort: DeviceSort): SortedPlace {
  if (sort === 'id') return { id: key, sortKey: key };
  const at = key.indexOf(separator);
  const [sortKey, id] = [key.slice(0, Math.max(0, at)), key.slice(at + 1)];
  const isSound = sort === 'type' ? isStorable(sortKey) : isStoredTime(sortKey);
  if (isSound && isStorable(id)) return { id, sortKey };
  throw invalidField('cursor', 'is not a next_cursor of a list in this order');
}

/** A time as PostgreSQL writes it, such as `2026-01-31 12:00:00.123456+00`. */
function isStoredTime(text: string): boolean {
  if (/^-?infinity$/.test(text)) return true;
  return parseTime(text.replace(/([+-]\d\d)$/, '$1:00')) !== undefined;
}
