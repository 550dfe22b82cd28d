import type { AckLevel } from '../../ack-level.js';
import type { Config } from '../../config.js';
import { SvcMqttError } from '../../errors.js';
import type { Log } from '../../log.js';
import { checkSubjectTemplate } from '../../subject-template.js';
import { connectNats, type NatsLink } from './connection/nats-link.js';
import { type NatsSettings, readNatsTarget } from './connection/nats-settings.js';
import { startCoreForwarder } from './core-forwarder.js';
import { findDeadLetterProblem } from './dead-letters.js';
import { startEmbeddedNats } from './embedded/embedded-nats.js';
import type { EmbeddedNats } from './embedded/found-nats.js';
import { openFleetTelling } from './fleet/fleet-telling.js';
import { startJetStreamForwarder } from './jetstream-forwarder.js';
import { openSharedState } from './state/shared-state.js';
import type { StateContext } from './state/state-stream.js';
import { type Coverage, readCoverage, type WantedSubjects } from './stream/coverage.js';
import { openServerSync } from './stream/server-sync.js';
import type { UnusableSubjects } from './stream/stream-config.js';
import { openStreamWatch } from './stream/stream-watch.js';

/** The settings a forwarder is started from. */
export type ForwarderSettings = NatsSettings &
  Pick<
    Config,
    | 'dataDir'
    | 'natsServerBin'
    | 'natsServerDownloadUrl'
    | 'embeddedNatsPort'
    | 'enableJetstream'
    | 'natsStream'
    | 'natsIngest'
    | 'ackLevel'
    | 'ackLevelOnBreach'
    | 'natsMonitorUrl'
    | 'natsSyncAlways'
    | 'natsSubject'
    | 'deadLetterSubject'
    | 'publishTimeoutSec'
    | 'maxInFlight'
    | 'maxInFlightBytes'
    | 'maxIndexedCommands'
  >;

/** How often the embedded server is asked for more space while it stores nothing. */
const spaceCheckMs = 2_000;
/** A disk that is only slow gets so long, after the first message that was not confirmed in time. */
const silentMs = 10_000;

/** A forwarder with all that it runs on. */
export type RunningForwarder = Awaited<ReturnType<typeof startForwarder>>;

/**
 * Checks the settings without connecting, so that a start with wrong ones fails before it has begun anything.
 *
 * @throws SvcMqttError CONFIG_INVALID.
 */
export function checkForwarderSettings(config: ForwarderSettings): void {
  const problem = checkSubjectTemplate(config.natsSubject);
  if (problem !== undefined)
    throw invalid(`NATS_SUBJECT cannot be "${config.natsSubject}": ${problem}`, 'Give it as raw.{id}');
  const { deadLetterSubject: dead } = config;
  const conflict = dead && findDeadLetterProblem(dead, config.natsSubject);
  if (conflict !== undefined)
    throw invalid(`DEAD_LETTER_SUBJECT cannot be "${dead}": ${conflict}`, 'Give it as dead.letters');
  if (!config.enableJetstream && config.ackLevel !== 'stored')
    throw invalid(
      `ACK_LEVEL=${config.ackLevel} with ENABLE_JETSTREAM=false: nothing is stored`,
      'Set ENABLE_JETSTREAM=true, or leave ACK_LEVEL out',
    );
  if (config.natsUrl === undefined) return;
  const target = readNatsTarget(config);
  // Their files are read anew for each connection.
  target.certificates();
  target.authenticator();
}

function invalid(detail: string, suggestion: string): SvcMqttError {
  return new SvcMqttError('CONFIG_INVALID', detail, { suggestion });
}

/**
 * Finds or starts the NATS server for a gateway without NATS_URL.
 *
 * @param signal ends the start.
 * @throws SvcMqttError NATS_EMBEDDED.
 */
export function startOwnNats(
  config: ForwarderSettings,
  log: Log,
  signal: AbortSignal | undefined,
): Promise<EmbeddedNats> {
  return startEmbeddedNats({
    dataDir: config.dataDir,
    port: config.embeddedNatsPort,
    program: config.natsServerBin,
    downloadUrl: config.natsServerDownloadUrl,
    log,
    signal,
  });
}

/**
 * Starts the way to NATS: the embedded server when no NATS_URL is set, the connection, the stream, the forwarder. A
 * failed start undoes what it began.
 *
 * @throws SvcMqttError CONFIG_INVALID, NATS_UNREACHABLE, NATS_REFUSED, NATS_EMBEDDED, NATS_STREAM or ACK_LEVEL.
 */
export async function startForwarder(options: {
  config: ForwarderSettings;
  log: Log;
  /** The server to use without NATS_URL, which somebody else runs. */
  borrowed?: EmbeddedNats | undefined;
  /** Ends the start of a server of our own. */
  signal?: AbortSignal | undefined;
}) {
  const { config, log, borrowed, signal } = options;
  checkForwarderSettings(config);
  let embedded: EmbeddedNats | undefined;
  let link: NatsLink | undefined;
  try {
    if (config.natsUrl === undefined) {
      embedded = borrowed ?? (await startOwnNats(config, log, signal));
    }
    link = await connectNats(embedded === undefined ? config : { ...config, natsUrl: embedded.url }, log);
    const limits = {
      maxInFlight: config.maxInFlight,
      maxInFlightBytes: config.maxInFlightBytes,
      ackTimeoutMs: config.publishTimeoutSec * 1_000,
    };
    const wanted = {
      stream: config.natsStream,
      template: config.natsSubject,
      ingest: config.natsIngest,
      domain: config.natsJetstreamDomain,
    };
    const sync = openServerSync({
      embedded: () => embedded?.syncs,
      monitorUrls: config.natsMonitorUrl?.split(',') ?? [],
      asserted: config.natsSyncAlways,
      domain: config.natsJetstreamDomain,
    });
    const promise = { level: config.ackLevel, onBreach: config.ackLevelOnBreach, sync };
    const watch = config.enableJetstream ? await openStreamWatch(link, wanted, promise, log) : undefined;
    const forwarder =
      watch === undefined
        ? startCoreForwarder({ link, limits, log, warns: config.ackLevelOnBreach === 'warn' })
        : startJetStreamForwarder({
            link,
            limits,
            watch,
            domain: config.natsJetstreamDomain,
            inboxPrefix: config.natsInboxPrefix,
            ingest: config.natsIngest,
            log,
          });
    const { natsJetstreamDomain: domain, natsInboxPrefix: inboxPrefix } = config;
    const state: StateContext | undefined =
      watch === undefined
        ? undefined
        : { link, domain, inboxPrefix, keeping: () => watch.stream.keeping, log, streams: new Set() };
    const telling = openFleetTelling(link, log);
    const shared = state && openSharedState(state, telling, limits, config.maxIndexedCommands);
    const running = embedded;
    const spaceTimer = setInterval(() => {
      const { connected, standstill } = forwarder.state();
      if (standstill?.outOfSpace) running?.makeRoom('full');
      else if (connected && standstill?.silent && Date.now() - standstill.sinceMs > silentMs)
        running?.makeRoom('silent');
    }, spaceCheckMs);
    spaceTimer.unref();
    const open = link;
    let closed: Promise<void> | undefined;
    return {
      forwarder,
      /** The connection to NATS, for the messages that go the other way. */
      link,
      /** What replicas tell each other by it. */
      telling,
      /** What streams and buckets of the gateway's own are made with; undefined without JetStream. */
      state,
      /** What replicas share in streams; undefined without JetStream. */
      shared,
      /** Holds subject templates against the streams; undefined without JetStream. Rejects while NATS is away. */
      async readCoverage(wanted: readonly WantedSubjects[]): Promise<Coverage | undefined> {
        if (!config.enableJetstream) return undefined;
        const { connection, detail } = open;
        if (connection === undefined) throw new SvcMqttError('NATS_UNREACHABLE', `NATS is away (${detail})`);
        return await readCoverage(connection, config.natsJetstreamDomain, wanted, sync);
      },
      /** To these subjects nothing is sent from now on: in place of those given before. */
      setUnusable: (subjects: readonly UnusableSubjects[]) => watch?.setUnusable(subjects),
      /** Levels of acknowledgement that policies promise. */
      setPromised: (levels: ReadonlySet<AckLevel>) => watch?.setPromised(levels),
      /** Ends the forwarder, the connection, and the embedded server when there is one. Idempotent. */
      close(): Promise<void> {
        clearInterval(spaceTimer);
        closed ??= Promise.all([shared?.close(), forwarder.close()])
          .then(() => {})
          .finally(() => running?.close());
        return closed;
      },
    };
  } catch (error) {
    await link?.close();
    await embedded?.close();
    throw error;
  }
}
