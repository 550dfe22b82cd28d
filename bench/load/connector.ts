import { openHistogram } from './histogram.js';
import { type Link, openLink } from './link.js';
import { type Dialect, disconnect, encodeConnect, encodeSubscribe, type Identity } from './packets.js';

export interface ConnectorConfig {
  readonly port: number;
  readonly identities: readonly Identity[];
  /** Default: 3.1.1. */
  readonly dialect?: Dialect | undefined;
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
}

/** Clients that connect and then are silent, or subscribe. */
export function openConnector(config: ConnectorConfig) {
  let links: (Link | undefined)[] = [];
  let dropped = 0;
  let closing = false;
  let subacks = 0;
  let onSuback: (() => void) | undefined;

  async function connectOne(index: number): Promise<number> {
    const identity = config.identities[index] as Identity;
    const link = openLink(
      config.port,
      encodeConnect(identity, `bench-${index}`, config),
      (bytes, from) => {
        // The only packet that comes here without a subscription's messages is SUBACK.
        if (bytes[from] !== 0x90) return;
        subacks += 1;
        onSuback?.();
      },
      () => {
        if (!closing && links[index] === link) dropped += 1;
      },
    );
    links[index] = link;
    return await link.accepted;
  }

  return {
    /** @param request.atOnce logins under way at a time; all of them: a storm. */
    async connect(request: { atOnce: number }): Promise<ConnectResult> {
      closing = false;
      const latency = openHistogram();
      const codes = new Map<number, number>();
      const startMs = performance.now();
      let next = 0;
      const connectMany = async () => {
        while (next < config.identities.length) {
          const index = next;
          next += 1;
          const fromMs = performance.now();
          const code = await connectOne(index);
          latency.record((performance.now() - fromMs) * 1_000);
          codes.set(code, (codes.get(code) ?? 0) + 1);
        }
      };
      await Promise.all(
        Array.from({ length: Math.min(request.atOnce, config.identities.length) }, connectMany),
      );
      const accepted = codes.get(0) ?? 0;
      const lost = codes.get(-1) ?? 0;
      return {
        accepted,
        lost,
        refused: config.identities.length - accepted - lost,
        elapsedMs: performance.now() - startMs,
        latency: latency.toJson(),
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
