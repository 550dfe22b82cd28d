import { toDeviceDetailsJson, toDeviceJson, toRotatedDeviceJson } from '../../../api/device.js';
import {
  DeviceChangesRequest,
  DeviceDetailsResponse,
  DeviceParams,
  DeviceResponse,
  RevokeQuery,
  RotatedDeviceResponse,
  RotateRequest,
} from '../../../api/device-schema.js';
import { refer } from '../../../api/schema.js';
import { checkReason } from '../../../db/devices/device-fields.js';
import { nameField, requireField } from '../fields.js';
import { ProblemError } from '../problem.js';
import { listProblems } from '../responses.js';
import type { TypedApp } from '../typed-app.js';
import { canBeId, createUnknownProblem, requireExpiry } from './device-input.js';
import type { DeviceOptions } from './device-queries.js';

const tags = ['devices'];

/** Adds the routes of one device. */
export function addDeviceItemRoutes(app: TypedApp, options: DeviceOptions): void {
  addShowRoute(app, options);
  addSetRoute(app, options);
  addRevokeRoute(app, options);
  addEnableRoute(app, options);
  addRemoveRoute(app, options);
  addRotateRoute(app, options);
}

/** What a query found of the device with this id. */
async function requireFound<T>(id: string, ask: (id: string) => Promise<T | undefined>): Promise<T> {
  const found = canBeId(id)
    ? await ask(id).catch((error: unknown) => {
        throw nameField(error);
      })
    : undefined;
  if (found === undefined) throw new ProblemError(createUnknownProblem(id));
  return found;
}

function addShowRoute(app: TypedApp, { devices }: DeviceOptions): void {
  app.get(
    '/devices/:id',
    {
      config: { role: 'viewer', ownRole: 'enroller' },
      schema: {
        tags,
        operationId: 'getDevice',
        summary: 'Show a device',
        description: 'Shows a device, revoked or not.',
        params: DeviceParams,
        response: {
          200: refer(DeviceDetailsResponse, { description: 'The device' }),
          ...listProblems(400, 404),
        },
      },
    },
    async (request, reply) => {
      const device = await requireFound(request.params.id, (id) => devices.find(id, request.madeBy));
      return reply.code(200).send(toDeviceDetailsJson(device, await devices.ledger(device.id)));
    },
  );
}

function addSetRoute(app: TypedApp, { devices, log }: DeviceOptions): void {
  app.patch(
    '/devices/:id',
    {
      config: { role: 'operator' },
      schema: {
        tags,
        operationId: 'setDevice',
        summary: 'Change a device',
        description: 'Changes the expiry and the metadata of a device. What is left out stays as it is.',
        params: DeviceParams,
        body: DeviceChangesRequest,
        response: {
          200: refer(DeviceResponse, { description: 'The device as it is now' }),
          ...listProblems(400, 404, 413),
        },
      },
    },
    async (request, reply) => {
      const { expires_at: expiry, metadata } = request.body;
      const expiresAt = typeof expiry === 'string' ? requireExpiry(expiry) : expiry;
      const device = await requireFound(request.params.id, (id) =>
        devices.set(request.actor, id, { expiresAt, metadata }),
      );
      log.info(
        { event: 'device_set', device: device.id, remoteAddress: request.ip },
        'A device was changed through the HTTP API',
      );
      return reply.code(200).send(toDeviceJson(device));
    },
  );
}

function addRevokeRoute(app: TypedApp, { devices, log }: DeviceOptions): void {
  app.delete(
    '/devices/:id',
    {
      config: { role: 'operator' },
      schema: {
        tags,
        operationId: 'revokeDevice',
        summary: 'Revoke a device',
        description:
          'Revokes a device: its connections are closed and it cannot connect again until it is enabled. Revoking a revoked device changes nothing.',
        params: DeviceParams,
        querystring: RevokeQuery,
        response: { 204: { type: 'null', description: 'The device is revoked' }, ...listProblems(400, 404) },
      },
    },
    async (request, reply) => {
      const { id } = request.params;
      const { reason } = request.query;
      if (reason !== undefined) requireField('reason', checkReason(reason));
      const outcome = canBeId(id) ? await devices.revoke(request.actor, id, reason) : 'unknown';
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

function addEnableRoute(app: TypedApp, { devices, log }: DeviceOptions): void {
  app.post(
    '/devices/:id/enable',
    {
      config: { role: 'operator' },
      schema: {
        tags,
        operationId: 'enableDevice',
        summary: 'Enable a revoked device',
        description: 'Ends the revocation of a device. Enabling one that is not revoked changes nothing.',
        params: DeviceParams,
        response: {
          200: refer(DeviceResponse, { description: 'The device as it is now' }),
          ...listProblems(400, 404),
        },
      },
    },
    async (request, reply) => {
      const device = await requireFound(request.params.id, (id) => devices.enable(request.actor, id));
      log.info(
        { event: 'device_enabled', device: device.id, remoteAddress: request.ip },
        'A device was enabled through the HTTP API',
      );
      return reply.code(200).send(toDeviceJson(device));
    },
  );
}

function addRemoveRoute(app: TypedApp, { devices, log }: DeviceOptions): void {
  app.post(
    '/devices/:id/remove',
    {
      config: { role: 'operator' },
      schema: {
        tags,
        operationId: 'removeDevice',
        summary: 'Remove a device for good',
        description:
          'Deletes a device, revoked or not: its connections are closed, and nothing of it is left but the audit log. Its id is free for another one. To keep it out and be able to let it in again, revoke it.',
        params: DeviceParams,
        response: {
          204: { type: 'null', description: 'The device is removed' },
          ...listProblems(400, 404, 409),
        },
      },
    },
    async (request, reply) => {
      const { id } = request.params;
      if (!canBeId(id) || !(await devices.remove(request.actor, id)))
        throw new ProblemError(createUnknownProblem(id));
      log.info(
        { event: 'device_removed', device: id, remoteAddress: request.ip },
        'A device was removed through the HTTP API',
      );
      return reply.code(204).send(null);
    },
  );
}

function addRotateRoute(app: TypedApp, { devices, log }: DeviceOptions): void {
  app.post(
    '/devices/:id/rotate',
    {
      config: { role: 'operator', bodyOptional: true },
      schema: {
        tags,
        operationId: 'rotateSecret',
        summary: "Replace a device's secret",
        description:
          'Makes a new password. The one until now ends at once, with the connections that were made by it, or with a grace when that is over.',
        params: DeviceParams,
        body: RotateRequest,
        response: {
          200: refer(RotatedDeviceResponse, { description: 'The device, with its new password' }),
          ...listProblems(400, 404, 413),
        },
      },
    },
    async (request, reply) => {
      const { grace_seconds: graceSec, until_used: untilUsed } = request.body;
      const graceMs = graceSec === undefined ? undefined : graceSec * 1_000;
      const device = await requireFound(request.params.id, (id) =>
        devices.rotate(request.actor, id, { graceMs, untilUsed }),
      );
      log.info(
        { event: 'device_rotated', device: device.id, remoteAddress: request.ip },
        'The secret of a device was replaced through the HTTP API',
      );
      return reply.code(200).send(toRotatedDeviceJson(device));
    },
  );
}
