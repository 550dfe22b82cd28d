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
import { checkReason } from '../../../db/devices/device-fields.js';
import { requireField } from '../fields.js';
import { answer, answerDone, operation } from '../operation.js';
import { logFor } from '../request-log.js';
import type { TypedApp } from '../typed-app.js';
import { canBeId, requireDevice, requireExpiry, unknownDevice } from './device-input.js';
import type { DeviceOptions } from './device-queries.js';

const tags = ['devices'];

/** Adds the routes of one device. */
export function addDeviceItemRoutes(app: TypedApp, options: DeviceOptions): void {
  addPropertyRoutes(app, options);
  addLifeCycleRoutes(app, options);
  addRotateRoute(app, options);
}

function addPropertyRoutes(app: TypedApp, { devices, log }: DeviceOptions): void {
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
        response: answer(DeviceDetailsResponse, 'The device', 400, 404),
      },
    },
    async (request, reply) => {
      const device = await requireDevice(request.params.id, (id) => devices.find(id, request.madeBy));
      return reply.code(200).send(toDeviceDetailsJson(device, await devices.ledger(device.id)));
    },
  );

  app.patch(
    '/devices/:id',
    operation('operator', {
      tags,
      operationId: 'setDevice',
      summary: 'Change a device',
      description: 'Changes the expiry and the metadata of a device. What is left out stays as it is.',
      params: DeviceParams,
      body: DeviceChangesRequest,
      response: answer(DeviceResponse, 'The device as it is now', 400, 404, 413),
    }),
    async (request, reply) => {
      const { expires_at: expiry, metadata } = request.body;
      const expiresAt = typeof expiry === 'string' ? requireExpiry(expiry) : expiry;
      const device = await requireDevice(request.params.id, (id) =>
        devices.set(request.actor, id, { expiresAt, metadata }),
      );
      logFor(log, request).info({ event: 'device_set', device: device.id }, 'A device was changed');
      return reply.code(200).send(toDeviceJson(device));
    },
  );
}

function addLifeCycleRoutes(app: TypedApp, { devices, log }: DeviceOptions): void {
  app.delete(
    '/devices/:id',
    operation('operator', {
      tags,
      operationId: 'revokeDevice',
      summary: 'Revoke a device',
      description:
        'Revokes a device: its connections are closed and it cannot connect again until it is enabled. Revoking a revoked device changes nothing.',
      params: DeviceParams,
      querystring: RevokeQuery,
      response: answerDone('The device is revoked', 400, 404),
    }),
    async (request, reply) => {
      const { id } = request.params;
      const { reason } = request.query;
      if (reason !== undefined) requireField('reason', checkReason(reason));
      const outcome = canBeId(id) ? await devices.revoke(request.actor, id, reason) : 'unknown';
      if (outcome === 'unknown') throw unknownDevice(id);
      if (outcome === 'revoked') {
        logFor(log, request).info({ event: 'device_revoked', device: id }, 'A device was revoked');
      }
      return reply.code(204).send(null);
    },
  );

  app.post(
    '/devices/:id/enable',
    operation('operator', {
      tags,
      operationId: 'enableDevice',
      summary: 'Enable a revoked device',
      description: 'Ends the revocation of a device. Enabling one that is not revoked changes nothing.',
      params: DeviceParams,
      response: answer(DeviceResponse, 'The device as it is now', 400, 404),
    }),
    async (request, reply) => {
      const device = await requireDevice(request.params.id, (id) => devices.enable(request.actor, id));
      logFor(log, request).info({ event: 'device_enabled', device: device.id }, 'A device was enabled');
      return reply.code(200).send(toDeviceJson(device));
    },
  );

  app.post(
    '/devices/:id/remove',
    operation('operator', {
      tags,
      operationId: 'removeDevice',
      summary: 'Remove a device for good',
      description:
        'Deletes a device, revoked or not: its connections are closed, and nothing of it is left but the audit log. Its id is free for another one. To keep it out and be able to let it in again, revoke it.',
      params: DeviceParams,
      response: answerDone('The device is removed', 400, 404, 409),
    }),
    async (request, reply) => {
      const { id } = request.params;
      if (!canBeId(id) || !(await devices.remove(request.actor, id))) throw unknownDevice(id);
      logFor(log, request).info({ event: 'device_removed', device: id }, 'A device was removed');
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
        response: answer(RotatedDeviceResponse, 'The device, with its new password', 400, 404, 413),
      },
    },
    async (request, reply) => {
      const { grace_seconds: graceSec, until_used: untilUsed } = request.body;
      const graceMs = graceSec === undefined ? undefined : graceSec * 1_000;
      const device = await requireDevice(request.params.id, (id) =>
        devices.rotate(request.actor, id, { graceMs, untilUsed }),
      );
      logFor(log, request).info(
        { event: 'device_rotated', device: device.id },
        'The secret of a device was replaced',
      );
      return reply.code(200).send(toRotatedDeviceJson(device));
    },
  );
}
