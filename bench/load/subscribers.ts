import { setTimeout as delay } from 'node:timers/promises';
import { connect, type NatsConnection } from 'nats';
import { openHistogram } from './histogram.js';
import { type Link, openLink } from './link.js';
import { encodeConnect, encodePublish, encodeSubscribe, type Identity, openPacketCutter } from './packets.js';

export interface SubscribersConfig {
  readonly port: number;
  readonly identities: readonly Identity[];
  /** Commands a second, to one device after the other. */
  readonly ratePerSec: number;
  /** Commands come from NATS, for the gateway, or from an MQTT client of the broker. */
  readonly natsUrl: string | undefined;
}

export interface SubscribersResult {
  readonly commands: number;
  readonly delivered: number;
  readonly latency: readonly number[];
}

/** Clients subscribed to their devices' commands with QoS 1, and who sends these commands. */
export function openSubscribers(config: SubscribersConfig) {
  const { identities } = config;
  const latency = openHistogram();
  const links: Link[] = [];
  let nats: NatsConnection | undefined;
  let commander: Link | undefined;
  let subacks = 0;
  let commands = 0;
  let delivered = 0;
  let packetId = 0;
  let pacing: NodeJS.Timeout | undefined;

  function open(identity: Identity, index: number): Link {
    const onPacket = (bytes: Buffer, bodyAt: number) => {
      const first = bytes[0] ?? 0;
      if (first >> 4 === 9) subacks += 1;
      if (first >> 4 !== 3) return;
      delivered += 1;
      const idAt = bodyAt + 2 + bytes.readUInt16BE(bodyAt);
      const qos = (first >> 1) & 3;
      const sentAtMs = bytes.readDoubleBE(idAt + (qos > 0 ? 2 : 0));
      latency.record((performance.now() - sentAtMs) * 1_000);
      if (qos > 0) link.socket.write(Buffer.from([0x40, 2, bytes[idAt] ?? 0, bytes[idAt + 1] ?? 0]));
    };
    const link = openLink(
      config.port,
      encodeConnect(identity, `bench-sub-${index}`),
      openPacketCutter(onPacket),
      () => {},
    );
    return link;
  }

  function sendCommand(): void {
    const { id } = identities[commands % identities.length] as Identity;
    const payload = Buffer.alloc(32);
    payload.writeDoubleBE(performance.now(), 0);
    if (nats !== undefined) {
      nats.publish(`cmd.${id}.go`, payload);
    } else {
      const publish = encodePublish(`cmd/${id}/go`, 1, payload);
      packetId = (packetId % 65_535) + 1;
      publish.writeUInt16BE(packetId, publish.length - payload.length - 2);
      commander?.socket.write(publish);
    }
    commands += 1;
  }

  return {
    async connect(): Promise<void> {
      for (const [index, identity] of identities.entries()) {
        const link = open(identity, index);
        links.push(link);
        const code = await link.accepted;
        if (code !== 0) throw new Error(`a subscriber was not let in: return code ${code}`);
        link.socket.write(encodeSubscribe(1, `cmd/${identity.id}/#`, 1));
      }
      const endMs = performance.now() + 10_000;
      while (subacks < identities.length) {
        if (performance.now() > endMs) throw new Error('not all subscriptions were answered');
        await delay(10);
      }
      if (config.natsUrl !== undefined) {
        nats = await connect({ servers: config.natsUrl });
        return;
      }
      commander = openLink(
        config.port,
        encodeConnect(identities[0] as Identity, 'bench-commander'),
        () => {},
        () => {},
      );
      await commander.accepted;
    },
    start(): void {
      const startMs = performance.now();
      pacing = setInterval(() => {
        const due = ((performance.now() - startMs) * config.ratePerSec) / 1_000;
        while (commands < due) sendCommand();
      }, 2);
    },
    /** Begins to measure. */
    async clearLatency(): Promise<{ delivered: number }> {
      latency.clear();
      return { delivered };
    },
    async finish(request: { timeoutMs: number }): Promise<SubscribersResult> {
      clearInterval(pacing);
      const endMs = performance.now() + request.timeoutMs;
      while (delivered < commands && performance.now() < endMs) await delay(10);
      return { commands, delivered, latency: latency.toJson() };
    },
    async close(): Promise<void> {
      for (const link of links) link.socket.destroy();
      commander?.socket.destroy();
      await nats?.close();
    },
  };
}
