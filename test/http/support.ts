import { request } from 'node:http';
import { connect } from 'node:net';
import { pino } from 'pino';
import type { Device } from '../../src/db/devices/devices.js';
import type { ChangeFeed } from '../../src/db/feed/change-feed.js';
import { SvcMqttError } from '../../src/errors.js';
import type { HttpLimits } from '../../src/server/http/limits.js';
import type { Queries } from '../../src/server/http/queries.js';
import type { DeviceQueries } from '../../src/server/http/resources/device-queries.js';
import {
  type HttpConfig,
  type Readiness,
  type RunningHttp,
  startHttpWith,
} from '../../src/server/http/start.js';
import type { ReplicaView } from '../../src/server/live.js';
import type { CertificateStore } from '../../src/server/tls/certificate-store.js';
import { openControlledFeed } from '../support/controlled-feed.js';
import { openIdleFleet } from '../support/idle-fleet.js';

export interface TestApi extends RunningHttp {
  /** Devices in the stand-in for the database. */
  readonly rows: Map<string, Device>;
  /** Every line logged so far. */
  readonly lines: Record<string, unknown>[];
}

/** A device as it is when it was just added. */
export function memoryDevice(id: string, type: string, now = new Date()): Device {
  return {
    id,
    type,
    createdAt: now,
    updatedAt: now,
    revokedAt: null,
    lastSeenAt: null,
    expiresAt: null,
    metadata: {},
    lastSecretUsed: null,
    previousSecretUntil: null,
    previousSecretUntilUsed: false,
  };
}

/** Devices in memory, for what the database has no part in. */
export function openMemoryQueries(rows: Map<string, Device>): DeviceQueries {
  return {
    async add(_actor, { type, id = `device${String(rows.size).padStart(4, '0')}`, expiresAt, metadata }) {
      const now = new Date();
      rows.set(id, {
        ...memoryDevice(id, type, now),
        expiresAt: expiresAt ?? null,
        metadata: metadata ?? {},
      });
      const mqttPassword = 'shown-once-only';
      return { id, type, mqttUser: id, mqttPassword, createdAt: now, expiresAt, metadata };
    },
    async list({ type, state, after, limit }) {
      return [...rows.values()]
        .filter((row) => type === undefined || row.type === type)
        .filter((row) => state === 'all' || (row.revokedAt === null) === (state === 'active'))
        .filter((row) => after === undefined || row.id > after.id)
        .slice(0, limit);
    },
    async find(id) {
      return rows.get(id);
    },
    async ledger() {
      return undefined;
    },
    async revoke(_actor, id) {
      const row = rows.get(id);
      if (row === undefined) return 'unknown';
      if (row.revokedAt !== null) return 'already revoked';
      rows.set(id, { ...row, revokedAt: new Date(), updatedAt: new Date() });
      return 'revoked';
    },
    async enable(_actor, id) {
      const row = rows.get(id);
      if (row !== undefined) rows.set(id, { ...row, revokedAt: null });
      return rows.get(id);
    },
    async remove(_actor, id) {
      return rows.delete(id);
    },
    async set(_actor, id) {
      return rows.get(id);
    },
    async rotate(_actor, id) {
      const row = rows.get(id);
      if (row === undefined) return undefined;
      const { type, previousSecretUntil, previousSecretUntilUsed } = row;
      const mqttPassword = 'shown-once-too';
      return { id, type, mqttUser: id, mqttPassword, previousSecretUntil, previousSecretUntilUsed };
    },
    async import() {
      throw new Error('not kept here');
    },
    async export() {
      return [];
    },
  };
}

export const allReady: Readiness = {
  database: { ok: true, detail: 'connected' },
  nats: { ok: true, detail: 'connected' },
  storage: { ok: true, detail: 'no failure' },
  listeners: { ok: true, detail: 'listening' },
};

/** No policies, and no place to keep one. */
const noPolicies: Queries['policies'] = {
  list: async () => [],
  find: async () => undefined,
  set: async () => {
    throw new Error('not kept here');
  },
  change: async () => {
    throw new Error('not kept here');
  },
  remove: async () => false,
  risksOf: async () => [],
};

const noClaims: Queries['claims'] = {
  create: async () => {
    throw new Error('not kept here');
  },
  list: async () => [],
  revoke: async () => 'unknown',
  redeem: async () => {
    throw new SvcMqttError('CLAIM_NOT_FOUND', 'There is no such claim');
  },
};

export const openConfig: HttpConfig = {
  listenAddr: '127.0.0.1:0',
  apiToken: undefined,
  apiAllowUnauthenticated: false,
  apiHosts: undefined,
  apiRequestsPerSecond: 1_000_000,
};

/** No keys, as after a first start. */
export const noKeys: Queries['keys'] = {
  load: async () => [],
  exist: async () => false,
  markUsed: async () => {},
  create: async () => Promise.reject(new Error('no keys are made here')),
  list: async () => [],
  revoke: async () => undefined,
};

/** A log whose lines can be read. */
export function openTestLog() {
  const lines: Record<string, unknown>[] = [];
  const log = pino({ level: 'debug', base: null }, { write: (line: string) => lines.push(JSON.parse(line)) });
  return { log, lines };
}

/** Starts the API on a free port and a stand-in for the database. */
export async function startTestApi(
  options: {
    config?: Partial<HttpConfig>;
    limits?: Partial<HttpLimits>;
    devices?: Partial<DeviceQueries>;
    view?: ReplicaView;
    certificates?: CertificateStore;
    keys?: Partial<Queries['keys']>;
    feed?: ChangeFeed;
    listAudit?: Queries['listAudit'];
    readiness?: () => Promise<Readiness> | Readiness;
  } = {},
): Promise<TestApi> {
  const rows = new Map<string, Device>();
  const { log, lines } = openTestLog();
  const running = await startHttpWith({
    queries: {
      devices: { ...openMemoryQueries(rows), ...options.devices },
      policies: noPolicies,
      keys: { ...noKeys, ...options.keys },
      claims: noClaims,
      listAudit: options.listAudit ?? (async () => []),
      noteCommand: async () => {},
    },
    feed: options.feed ?? openControlledFeed(),
    config: { ...openConfig, ...options.config },
    limits: options.limits ?? {},
    readiness: options.readiness ?? (() => allReady),
    readMetrics: async () => ({ contentType: 'text/plain; version=0.0.4; charset=utf-8', text: 'up 1\n' }),
    view: options.view ?? openIdleFleet(),
    certificates: options.certificates,
    version: '1.2.3',
    log,
  });
  return { ...running, rows, lines };
}

export interface Answer {
  readonly status: number;
  readonly headers: Record<string, string | string[] | undefined>;
  readonly text: string;
  readonly bytes: Buffer;
  /** The body as JSON; fails when it is not. */
  json<T = Record<string, unknown>>(): T;
}

/** Sends one request with exactly the headers given, on a connection of its own. */
export function call(
  port: number,
  method: string,
  path: string,
  options: { headers?: Record<string, string>; body?: string | Buffer; host?: string } = {},
): Promise<Answer> {
  const headers = { ...options.headers };
  // Node leaves the length out for methods that seldom have a body.
  if (options.body !== undefined && headers['transfer-encoding'] === undefined) {
    headers['content-length'] = String(Buffer.byteLength(options.body));
  }
  return new Promise((resolve, reject) => {
    const outgoing = request(
      { port, method, path, host: options.host ?? '127.0.0.1', headers, agent: false },
      (incoming) => {
        const chunks: Buffer[] = [];
        incoming.on('data', (chunk: Buffer) => chunks.push(chunk));
        incoming.on('error', reject);
        incoming.on('end', () => {
          const bytes = Buffer.concat(chunks);
          const text = bytes.toString();
          resolve({
            status: incoming.statusCode ?? 0,
            headers: incoming.headers,
            text,
            bytes,
            json: () => JSON.parse(text),
          });
        });
      },
    );
    outgoing.on('error', reject);
    outgoing.end(options.body);
  });
}

/** Writes bytes on a bare socket and answers all that comes until the other side closes it. */
export function sendBytes(
  port: number,
  bytes: string,
  options: { onOpen?: (write: (more: string) => void) => void } = {},
): Promise<string> {
  return new Promise((resolve) => {
    let received = '';
    const socket = connect(port, '127.0.0.1', () => {
      socket.write(bytes);
      options.onOpen?.((more) => socket.writable && socket.write(more));
    });
    socket.on('data', (chunk) => {
      received += chunk.toString();
    });
    // A reset is one way of closing.
    socket.on('error', () => undefined);
    socket.on('close', () => resolve(received));
  });
}
