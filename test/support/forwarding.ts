import { setTimeout as delay } from 'node:timers/promises';
import { connect, type NatsConnection } from 'nats';
import { pino } from 'pino';
import type { Log } from '../../src/log.js';
import { connectNats } from '../../src/server/forward/connection/nats-link.js';
import type { NatsSettings } from '../../src/server/forward/connection/nats-settings.js';
import { startCoreForwarder } from '../../src/server/forward/core-forwarder.js';
import type { Forwarder, IngestSetting, UplinkMessage } from '../../src/server/forward/forwarder.js';
import { startJetStreamForwarder } from '../../src/server/forward/jetstream-forwarder.js';
import type { ForwarderLimits } from '../../src/server/forward/lanes/forwarding.js';
import type { AckPromise } from '../../src/server/forward/stream/ack-watch.js';
import { openServerSync } from '../../src/server/forward/stream/server-sync.js';
import { openStreamWatch } from '../../src/server/forward/stream/stream-watch.js';

import { encodeHeaders } from '../../src/server/forward/subject.js';
import { readMessages } from './load.js';

export interface LoggedLine {
  readonly event: string;
  readonly [field: string]: unknown;
}

/** A log that tests can read. */
export function openTestLog(): { log: Log; lines: LoggedLine[]; count(event: string): number } {
  const lines: LoggedLine[] = [];
  return {
    lines,
    log: pino({ level: 'debug' }, { write: (line: string) => void lines.push(JSON.parse(line)) }),
    count: (event) => lines.filter((line) => line.event === event).length,
  };
}

/** What a message of the library has inside, by which its header block is read. */
export function messageInside(headerBlock: string) {
  return { _msg: { hdr: headerBlock.length }, _rdata: Buffer.from(headerBlock) };
}

export const noNatsSettings: NatsSettings = {
  natsUrl: undefined,
  natsUser: undefined,
  natsPassword: undefined,
  natsToken: undefined,
  natsNkeyFile: undefined,
  natsCredsFile: undefined,
  natsTlsCa: undefined,
  natsTlsCert: undefined,
  natsTlsKey: undefined,
  natsInboxPrefix: '_INBOX',
  natsJetstreamDomain: undefined,
};

export const testLimits: ForwarderLimits = {
  maxInFlight: 4_096,
  maxInFlightBytes: 16_777_216,
  ackTimeoutMs: 2_000,
};

/** Nothing but that messages are stored. */
export const noPromise = (): AckPromise => ({
  level: 'stored',
  onBreach: 'refuse',
  sync: openServerSync({ embedded: () => undefined, monitorUrls: [], asserted: false, domain: undefined }),
});

/** Starts a forwarder on a NATS server of a test. */
export async function openTestForwarder(
  url: string,
  log: Log,
  options: {
    limits?: Partial<ForwarderLimits>;
    jetstream?: boolean;
    ingest?: IngestSetting;
    nats?: Partial<NatsSettings>;
    promise?: Partial<AckPromise>;
  } = {},
): Promise<Forwarder> {
  const limits = { ...testLimits, ...options.limits };
  const { ingest = 'batch' } = options;
  const settings = { ...noNatsSettings, ...options.nats, natsUrl: url };
  const link = await connectNats(settings, log);
  if (options.jetstream === false) return startCoreForwarder({ link, limits, log });
  const wanted = {
    stream: 'RAW',
    template: 'raw.{id}',
    ingest,
    domain: settings.natsJetstreamDomain,
  };
  const watch = await openStreamWatch(link, wanted, { ...noPromise(), ...options.promise }, log);
  return startJetStreamForwarder({
    ...{ link, limits, log, watch, ingest },
    domain: settings.natsJetstreamDomain,
    inboxPrefix: settings.natsInboxPrefix,
  });
}

/** A message of a device `abc`, with the text as payload. */
export function uplink(payload: string | Uint8Array, options: Partial<UplinkMessage> = {}): UplinkMessage {
  return {
    subject: Buffer.from('raw.abc'),
    headers: encodeHeaders('raw/abc'),
    payload: typeof payload === 'string' ? Buffer.from(payload) : payload,
    confirm: true,
    messageId: undefined,
    batchable: true,
    onStored() {},
    compact() {},
    renew: () => undefined,
    onRefused() {},
    ...options,
  };
}

/** Waits until a condition holds. */
export async function until(condition: () => boolean | Promise<boolean>, withinMs = 60_000): Promise<void> {
  const endMs = performance.now() + withinMs;
  while (!(await condition())) {
    if (performance.now() > endMs) throw new Error(`not so within ${withinMs} ms: ${condition}`);
    await delay(10);
  }
}

/** A second connection, through which a test looks at the server. */
export async function openObserver(
  url: string,
  credentials: { user?: string; pass?: string } = {},
): Promise<NatsConnection> {
  return connect({ servers: url, timeout: 30_000, ...credentials });
}

/** The payloads of a stream, in order. */
export async function readStream(observer: NatsConnection, stream = 'RAW'): Promise<string[]> {
  const { state } = await (await observer.jetstreamManager()).streams.info(stream);
  return (await readMessages(observer, stream, state.messages)).map(({ payload }) => payload);
}
