import type { Config } from '../../config.js';
import { SvcMqttError } from '../../errors.js';
import type { Log } from '../../log.js';
import { checkSubjectTemplate } from '../../subject-template.js';
import { startCoreForwarder } from './core-forwarder.js';
import { findUncovered } from './coverage.js';
import { type EmbeddedNats, startEmbeddedNats } from './embedded-nats.js';
import type { Forwarder } from './forwarder.js';
import { startJetStreamForwarder } from './jetstream-forwarder.js';
import { connectNats, type NatsLink } from './nats-connection.js';
import type { NatsSettings } from './nats-settings.js';
import { requireStream } from './stream.js';

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
    | 'natsSubject'
    | 'publishTimeoutSec'
    | 'maxInFlight'
    | 'maxInFlightBytes'
  >;

/** A forwarder with all that it runs on. */
export interface RunningForwarder {
  readonly forwarder: Forwarder;
  /** The connection to NATS, for the messages that go the other way. */
  readonly link: NatsLink;
  /** Of subject templates, those that no stream covers; undefined without JetStream. Rejects while NATS is away. */
  findUncovered(templates: readonly string[]): Promise<string[] | undefined>;
  /** Ends the forwarder, the connection, and the embedded server when there is one. Idempotent. */
  close(): Promise<void>;
}

/**
 * Starts the way to NATS: the embedded server when no NATS_URL is set, the connection, the stream, the forwarder. A
 * failed start undoes what it began.
 *
 * @throws SvcMqttError CONFIG_INVALID, NATS_UNREACHABLE, NATS_REFUSED, NATS_EMBEDDED or NATS_STREAM.
 */
export async function startForwarder(options: {
  config: ForwarderSettings;
  log: Log;
}): Promise<RunningForwarder> {
  const { config, log } = options;
  const problem = checkSubjectTemplate(config.natsSubject);
  if (problem !== undefined) {
    throw new SvcMqttError('CONFIG_INVALID', `NATS_SUBJECT cannot be "${config.natsSubject}": ${problem}`, {
      suggestion: 'Give it as raw.{id}',
    });
  }
  let embedded: EmbeddedNats | undefined;
  let link: NatsLink | undefined;
  try {
    if (config.natsUrl === undefined) {
      embedded = await startEmbeddedNats({
        dataDir: config.dataDir,
        port: config.embeddedNatsPort,
        program: config.natsServerBin,
        downloadUrl: config.natsServerDownloadUrl,
        log,
      });
    }
    link = await connectNats(embedded === undefined ? config : { ...config, natsUrl: embedded.url }, log);
    const limits = {
      maxInFlight: config.maxInFlight,
      maxInFlightBytes: config.maxInFlightBytes,
      ackTimeoutMs: config.publishTimeoutSec * 1_000,
    };
    const forwarder = await startConfirmed({ config, link, limits, log });
    const running = embedded;
    const open = link;
    let closed: Promise<void> | undefined;
    return {
      forwarder,
      link,
      async findUncovered(templates) {
        if (!config.enableJetstream) return undefined;
        const { connection, detail } = open;
        if (connection === undefined) throw new SvcMqttError('NATS_UNREACHABLE', `NATS is away (${detail})`);
        return await findUncovered(connection, templates);
      },
      close() {
        closed ??= forwarder.close().finally(() => running?.close());
        return closed;
      },
    };
  } catch (error) {
    await link?.close();
    await embedded?.close();
    throw error;
  }
}

async function startConfirmed(options: {
  config: ForwarderSettings;
  link: NatsLink;
  limits: { maxInFlight: number; maxInFlightBytes: number; ackTimeoutMs: number };
  log: Log;
}): Promise<Forwarder> {
  const { config, link, limits, log } = options;
  if (!config.enableJetstream) return startCoreForwarder({ link, limits, log });
  const wanted = {
    stream: config.natsStream,
    template: config.natsSubject,
    batched: config.natsIngest === 'batch',
  };
  const { connection } = link;
  if (connection === undefined) {
    throw new SvcMqttError('NATS_UNREACHABLE', 'The connection to NATS ended during the start', {
      suggestion: 'Check the NATS server',
    });
  }
  const stream = await requireStream(connection, wanted, log);
  return startJetStreamForwarder({
    link,
    limits,
    stream,
    requireStream: (current) => requireStream(current, wanted, log),
    ingest: config.natsIngest,
    log,
  });
}
