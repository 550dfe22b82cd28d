import { Duplex } from 'node:stream';
import { Aedes } from 'aedes';
import type { Log } from '../../log.js';
import { FrameReader } from './frame-reader.js';
import { encodeConnect } from './packets/connect.js';
import type { QoS } from './packets/packet-type.js';

/** A client's connection as the session engine sees it. */
export interface EngineClient {
  /** Unique over all devices. */
  readonly clientId: string;
  readonly clean: boolean;
  maySubscribe(filter: string): boolean;
  /** The highest QoS granted to this client for a topic [MQTT-3.8.4-6]. */
  grantedQos(topic: string): QoS;
  /** A packet for the client. */
  onPacket(packet: Buffer, bodyOffset: number): void;
  /** The engine has ended the session's connection. */
  onClosed(): void;
}

/** What goes from one client to the engine. */
export interface EngineLink {
  /** Gives one whole packet: SUBSCRIBE, UNSUBSCRIBE, or an acknowledgement of what the engine sent. */
  write(packet: Buffer): void;
  /** Ends the connection. */
  close(): void;
  /** Resolves when the engine has let go of the connection, whoever ended it. */
  readonly released: Promise<void>;
}

/**
 * Keeps subscriptions, retained messages and queues of absent clients, with aedes. Only clients that subscribe get
 * here, and never a PUBLISH packet: the gateway delivers messages itself by `deliver`.
 */
export interface SessionEngine {
  /** Connects a client; resolves when the engine has accepted it. */
  attach(client: EngineClient): Promise<EngineLink>;
  /** Publishes to the subscribers of this replica. */
  deliver(message: { topic: string; payload: Buffer; qos: QoS; retain: boolean }): void;
  close(): Promise<void>;
}

/** Longest wait for the engine to accept a client or to let go of one. */
const engineTimeoutMs = 10_000;

/** The stream between one client and the engine; what the engine writes is cut into packets. */
class EngineStream extends Duplex {
  readonly owner: EngineClient;
  accepted = false;
  /** The engine has unregistered the client. */
  readonly onReleased: () => void;
  private readonly onAccepted: () => void;
  private readonly reader = new FrameReader();

  constructor(owner: EngineClient, events: { onAccepted(): void; onReleased(): void }) {
    super({ allowHalfOpen: false });
    this.owner = owner;
    this.onAccepted = events.onAccepted;
    this.onReleased = events.onReleased;
  }

  override _read(): void {
    // Packets are pushed as they arrive.
  }

  /** A client that reads slowly never holds the engine up: its connection bounds what waits, and closes. */
  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.reader.push(chunk);
    for (;;) {
      const packet = this.reader.next(Number.POSITIVE_INFINITY);
      if (!Buffer.isBuffer(packet)) break;
      if (this.accepted) {
        this.owner.onPacket(packet, this.reader.bodyOffset);
      } else {
        // The client has its CONNACK already, so the engine's is swallowed.
        this.accepted = true;
        this.onAccepted();
      }
    }
    done();
  }
}

/** Starts the engine. */
export async function startSessionEngine(log: Log): Promise<SessionEngine> {
  const broker = new Aedes({
    // One frozen subscriber must not fill the emitter's delivery slots, so they are not limited.
    concurrency: 0,
    // The connection keeps time and checks identities; nothing but `attach` reaches the engine.
    connectTimeout: engineTimeoutMs,
    drainTimeout: 0,
    maxClientsIdLength: 65_535,
    heartbeatInterval: 86_400_000,
    authorizePublish: (_client, _packet, callback) => callback(new Error('PUBLISH never enters the engine')),
    authorizeSubscribe: (client, subscription, callback) => {
      const stream = client.conn as unknown as EngineStream;
      callback(null, stream.owner.maySubscribe(subscription.topic) ? subscription : null);
    },
    // aedes caps the QoS of a subscription without wildcards only.
    authorizeForward: (client, packet) => {
      const granted = (client.conn as unknown as EngineStream).owner.grantedQos(packet.topic);
      return packet.qos > granted ? { ...packet, qos: granted } : packet;
    },
  });
  broker.on('clientDisconnect', (client) => (client.conn as unknown as EngineStream).onReleased());
  broker.on('clientError', (client, error) =>
    log.debug(
      { event: 'session_engine_client_error', client: client.id, err: error },
      'The session engine closed a client',
    ),
  );
  broker.on('connectionError', (_client, error) =>
    log.debug(
      { event: 'session_engine_connection_error', err: error },
      'The session engine closed a connection',
    ),
  );
  // Without a listener a persistence failure would end the process.
  (broker as unknown as NodeJS.EventEmitter).on('error', (error: unknown) =>
    log.error({ event: 'session_engine_error', err: error }, 'The session engine failed'),
  );
  await broker.listen();

  return {
    attach: (client) => attach(broker, client),
    deliver: (message) =>
      broker.publish({ cmd: 'publish', dup: false, ...message }, (error) => {
        if (error)
          log.error(
            { event: 'session_engine_error', err: error },
            'A message was not delivered to MQTT subscribers',
          );
      }),
    close: () => new Promise((resolve) => broker.close(() => resolve())),
  };
}

function attach(broker: Aedes, client: EngineClient): Promise<EngineLink> {
  return new Promise((resolve, reject) => {
    let resolveReleased: () => void = () => {};
    const released = new Promise<void>((resolvePromise) => {
      resolveReleased = resolvePromise;
    });
    const stream = new EngineStream(client, {
      onAccepted: () =>
        resolve({
          write: (packet) => {
            if (!stream.destroyed) stream.push(packet);
          },
          close: () => stream.destroy(),
          released,
        }),
      onReleased: () => {
        client.onClosed();
        resolveReleased();
      },
    });
    stream.once('close', () => {
      // The engine answers at once; a client is not locked out for ever should it ever not.
      setTimeout(resolveReleased, engineTimeoutMs).unref();
      if (!stream.accepted) reject(new Error('the session engine refused the client'));
    });
    broker.handle(stream);
    stream.push(encodeConnect(client));
  });
}
