import type { FastifyReply, FastifyRequest } from 'fastify';
import type { FieldProblem } from '../../../api/problem.js';
import { defaultPageLimit } from '../../../api/schema.js';
import { readImportedDevice, toStoredDeviceJson } from '../../../api/stored-device.js';
import {
  ExportRequest,
  ImportRequest,
  ImportResponse,
  StoredDevice,
  StoredDevicePage,
} from '../../../api/stored-device-schema.js';
import type { DeviceRow } from '../../../db/devices/device-insert.js';
import type { HttpLimits } from '../limits.js';
import { answer } from '../operation.js';
import { decodeCursor, makePage } from '../paging.js';
import { invalidInput, ProblemError, tooManyRequests } from '../problem.js';
import { logFor } from '../request-log.js';
import type { TypedApp } from '../typed-app.js';
import { requireMetadata, requireType } from './device-input.js';
import type { DeviceOptions } from './device-queries.js';

const tags = ['devices'];
/** Who was turned away by the bound on those under way may come again after so long. */
const comeAgainMs = 1_000;

type Options = DeviceOptions & { readonly limits: HttpLimits };

/**
 * Adds the routes that take and give many devices with what is kept of their secrets. Few are served at once: each reads a
 * body that is larger than others, or hundreds of rows.
 */
export function addDeviceBulkRoutes(app: TypedApp, options: Options): void {
  for (const schema of [StoredDevice, StoredDevicePage, ImportResponse]) app.addSchema(schema);
  let underWay = 0;
  const enter = async (_request: FastifyRequest, reply: FastifyReply) => {
    if (underWay >= options.limits.maxBulkRequests) {
      const detail = `${underWay} imports and exports are under way, which is the limit`;
      throw tooManyRequests(detail, comeAgainMs);
    }
    // Who has gone by now is not told of the end again.
    if (reply.raw.destroyed) return;
    underWay += 1;
    reply.raw.once('close', () => {
      underWay -= 1;
    });
  };
  addImportRoute(app, options, enter);
  addExportRoute(app, options, enter);
}

type Enter = (request: FastifyRequest, reply: FastifyReply) => Promise<void>;

function addImportRoute(app: TypedApp, { devices, log, limits }: Options, enter: Enter): void {
  app.post(
    '/devices/import',
    {
      config: { role: 'operator' },
      bodyLimit: limits.maxBulkBytes,
      onRequest: enter,
      schema: {
        tags,
        operationId: 'importDevices',
        summary: 'Import devices',
        description:
          'Stores devices with salts and hashes of their secrets, as `POST /devices/export` answers them: all or none, unless `skip_existing` leaves out those whose ids are taken. The body may have 1 MiB. Two imports and exports are served at once; 429: come again.',
        body: ImportRequest,
        response: answer(ImportResponse, 'What became of them', 400, 409, 413),
      },
    },
    async (request, reply) => {
      const { devices: given, skip_existing: skips = false } = request.body;
      const rows = requireRows(given.map(readImportedDevice));
      const stored = await devices.import(request.actor, rows, (taken) => {
        if (!skips && taken.size > 0) throw refuseTaken(rows, taken);
      });
      logFor(log, request).info({ event: 'devices_imported', count: stored.size }, 'Devices were imported');
      return reply.code(200).send({
        imported: [...stored].map(([id, createdAt]) => ({ id, created_at: createdAt.toISOString() })),
        existing: rows.filter(({ id }) => !stored.has(id)).map(({ id }) => id),
      });
    },
  );
}

/** The rows, when each is sound and no id is there twice. */
function requireRows(read: readonly ReturnType<typeof readImportedDevice>[]): DeviceRow[] {
  const faults: FieldProblem[] = [];
  const rows = new Map<string, DeviceRow>();
  for (const [index, row] of read.entries()) {
    if ('problem' in row) faults.push({ field: `devices.${index}.${row.field}`, problem: row.problem });
    else if (rows.has(row.id)) faults.push({ field: `devices.${index}.id`, problem: 'is there twice' });
    else rows.set(row.id, row);
  }
  if (faults.length > 0) throw invalidInput(faults.slice(0, mostFaults));
  return [...rows.values()];
}

/** Most faults of rows that one answer names. */
const mostFaults = 16;

function refuseTaken(rows: readonly DeviceRow[], taken: ReadonlySet<string>): ProblemError {
  const errors = rows.flatMap(({ id }, index) =>
    taken.has(id) ? [{ field: `devices.${index}.id`, problem: 'exists already' }] : [],
  );
  const detail = `${errors.length} of ${rows.length} devices exist already; nothing was imported`;
  const suggestion = 'Leave them out, or send skip_existing';
  return new ProblemError('DEVICE_EXISTS', detail, { suggestion, errors });
}

function addExportRoute(app: TypedApp, { devices, log }: Options, enter: Enter): void {
  app.post(
    '/devices/export',
    {
      config: { role: 'operator', bodyOptional: true },
      onRequest: enter,
      schema: {
        tags,
        operationId: 'exportDevices',
        summary: 'Export devices with hashes',
        description:
          'Answers devices, revoked ones too, with salts and hashes of their secrets, in order of id, a page at a time: what `POST /devices/import` restores. Each page is noted in the audit log. Two imports and exports are served at once; 429: come again.',
        body: ExportRequest,
        response: answer(StoredDevicePage, 'One page', 400, 413),
      },
    },
    async (request, reply) => {
      const { type, metadata, limit = defaultPageLimit, cursor } = request.body;
      if (type !== undefined) requireType(type);
      const after = cursor === undefined ? undefined : decodeCursor(cursor);
      const filter = { type, metadata: metadata && requireMetadata(metadata) };
      const rows = await devices.export(request.actor, { ...filter, after, limit });
      const { page, next } = makePage(rows, limit, ({ id }) => id);
      logFor(log, request).info(
        { event: 'devices_exported', count: page.length },
        'Devices were exported with the hashes of their secrets',
      );
      return reply.code(200).send({ devices: page.map(toStoredDeviceJson), next_cursor: next });
    },
  );
}
