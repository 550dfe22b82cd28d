import { setTimeout as delay } from 'node:timers/promises';
import { openHistogram } from './histogram.js';
import { type Link, openLink } from './link.js';
import {
  type Dialect,
  disconnect,
  encodeConnect,
  encodeSubscribe,
  type Identity,
  openPacketCutter,
} from './packets.js';

export interface ConnectorConfig {
  readonly port: number;
  readonly identities: readonly Identity[];
  /** Default: 3.1.1. */
  readonly dialect?: Dialect | undefined;
  /** Clients go on with sessions that outlive their connections; default: clean ones. */
  readonly session?: boolean;
  /** What client ids begin with: no two loads of one system share it. */
  readonly prefix?: string;
  /** Number of the first client, in its client id; default: 0. */
  readonly firstIndex?: number;
}

export interface ConnectResult {
  /** Logins answered with return code 0. */
  readonly accepted: number;
  /** Logins answered with another return code. */
  readonly refused: number;
  /** Connections that ended without an answer. */
  readonly lost: number;
  readonly elapsedMs: number;
  /** From connect(2) to CONNACK, as bucket counts. */
  readonly latency: readonly number[];
  /** From connect(2) to the last of the commands that each client waits for. */
  readonly lastCommand: readonly number[];
}

/** Commands that clients with a session have received; each is to be one more than the one before. */
export interface CommandCount {
  readonly delivered: number;
  /** That were not: gaps, doubles, a wrong order. */
  readonly strayed: number;
}

const commandsWithinMs = 100_000;

/** Clients that connect and then are silent, or subscribe, and acknowledge what they are sent. */
export function openConnector(config: ConnectorConfig) {
  let links: (Link | undefined)[] = [];
  let dropped = 0;
  let closing = false;
  let subacks = 0;
  let onSuback: (() => void) | undefined;
  /** Commands received of each client, in all. */
  const received = new Uint32Array(config.identities.length);
  let delivered = 0;
  let strayed = 0;
  let onReceived: ((index: number) => void) | undefined;

  function onPacket(link: Link, index: number, bytes: Buffer, bodyAt: number): void {
    const first = bytes[0] ?? 0;
    if (first === 0x90) {
      subacks += 1;
      onSuback?.();
    } else if (first >> 4 === 3) {
      const idAt = bodyAt + 2 + bytes.readUInt16BE(bodyAt);
      if (bytes.readUInt32BE(idAt + 2) !== received[index]) strayed += 1;
      received[index] = (received[index] ?? 0) + 1;
      delivered += 1;
      link.socket.write(Buffer.from([0x40, 2, bytes[idAt] ?? 0, bytes[idAt + 1] ?? 0]));
      onReceived?.(index);
    }
  }

  async function connectOne(index: number): Promise<number> {
    const identity = config.identities[index] as Identity;
    const link = openLink(
      config.port,
      encodeConnect(identity, `${config.prefix ?? 'bench'}-${(config.firstIndex ?? 0) + index}`, config),
      openPacketCutter((bytes, bodyAt) => onPacket(link, index, bytes, bodyAt)),
      () => {
        if (!closing && links[index] === link) dropped += 1;
      },
    );
    links[index] = link;
    return await link.accepted;
  }

  return {
    /**
     * @param request.atOnce logins under way at a time; all of them: a storm.
     * @param request.commands of each client, with a QoS 1 and a number each, are waited for as well.
     */
    async connect(request: { atOnce: number; commands?: number }): Promise<ConnectResult> {
      closing = false;
      const { commands = 0 } = request;
      const latency = openHistogram();
      const lastCommand = openHistogram();
      const begunMs = new Float64Array(config.identities.length);
      const wanted = delivered + commands * config.identities.length;
      const until = received.map((count) => count + commands);
      onReceived = (index) => {
        if (received[index] === until[index])
          lastCommand.record((performance.now() - (begunMs[index] as number)) * 1_000);
      };
      const codes = new Map<number, number>();
      const startMs = performance.now();
      let next = 0;
      const connectMany = async () => {
        while (next < config.identities.length) {
          const index = next;
          next += 1;
          const fromMs = performance.now();
          begunMs[index] = fromMs;
          const code = await connectOne(index);
          latency.record((performance.now() - fromMs) * 1_000);
          codes.set(code, (codes.get(code) ?? 0) + 1);
        }
      };
      await Promise.all(
        Array.from({ length: Math.min(request.atOnce, config.identities.length) }, connectMany),
      );
      const elapsedMs = performance.now() - startMs;
      const endMs = startMs + commandsWithinMs;
      while (delivered < wanted && performance.now() < endMs) await delay(10);
      onReceived = undefined;
      const accepted = codes.get(0) ?? 0;
      const lost = codes.get(-1) ?? 0;
      return {
        accepted,
        lost,
        refused: config.identities.length - accepted - lost,
        elapsedMs,
        latency: latency.toJson(),
        lastCommand: lastCommand.toJson(),
      };
    },
    /** Subscribes each client to its device's commands and waits for all SUBACKs. */
    async subscribe(): Promise<void> {
      const wanted = subacks + links.length;
      const all = new Promise<void>((resolve) => {
        onSuback = () => {
          if (subacks >= wanted) resolve();
        };
      });
      for (const [index, link] of links.entries())
        link?.socket.write(encodeSubscribe(1, `cmd/${config.identities[index]?.id}/#`, 1, config.dialect));
      await all;
    },
    counts: (): CommandCount => ({ delivered, strayed }),
    /** Connections that the broker ended. */
    dropped: (): number => dropped,
    async disconnect(): Promise<void> {
      closing = true;
      await Promise.all(
        links.map(
          (link) =>
            new Promise<void>((resolve) => {
              if (link === undefined || link.socket.destroyed) resolve();
              else link.socket.once('close', () => resolve()).end(disconnect);
            }),
        ),
      );
      links = [];
    },
    close(): void {
      closing = true;
      for (const link of links) link?.socket.destroy();
    },
  };
}
