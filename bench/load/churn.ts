import { setTimeout as delay } from 'node:timers/promises';
import { openLink } from './link.js';
import {
  disconnect,
  encodeConnect,
  encodePublish,
  type Identity,
  makePayload,
  uplinkTopic,
} from './packets.js';

export interface ChurnConfig {
  readonly port: number;
  readonly identities: readonly Identity[];
  readonly firstIndex: number;
  /** Clients that come a second. */
  readonly ratePerSec: number;
  /** Most clients there at a time. */
  readonly atOnce: number;
  /** After so many clients no more come. */
  readonly total: number;
}

export interface ChurnResult {
  readonly started: number;
  /** Clients that were let in, had their message acknowledged, and left. */
  readonly served: number;
  readonly failed: number;
}

/** Clients that come, publish one message at QoS 1, wait for its PUBACK, and go. */
export function openChurn(config: ChurnConfig) {
  const payload = makePayload(config.firstIndex, 64);
  let started = 0;
  let served = 0;
  let failed = 0;
  let pacing: NodeJS.Timeout | undefined;

  function visit(): void {
    const identity = config.identities[started % config.identities.length] as Identity;
    started += 1;
    const publish = encodePublish(uplinkTopic(identity.id), 1, payload);
    publish[publish.length - payload.length - 1] = 1;
    let acknowledged = false;
    const link = openLink(
      config.port,
      encodeConnect(identity, `bench-churn-${started}`),
      (bytes, from) => {
        acknowledged ||= bytes[from] === 0x40;
        if (acknowledged) link.socket.end(disconnect);
      },
      () => {
        if (acknowledged) served += 1;
        else failed += 1;
      },
    );
    link.accepted.then(
      (code) => {
        if (code === 0) link.socket.write(publish);
        else link.socket.destroy();
      },
      () => {},
    );
  }

  return {
    start(): void {
      const startMs = performance.now();
      pacing = setInterval(() => {
        const due = Math.min(((performance.now() - startMs) * config.ratePerSec) / 1_000, config.total);
        while (started < due && started - served - failed < config.atOnce) visit();
      }, 5);
    },
    snapshot: (): ChurnResult => ({ started, served, failed }),
    async finish(request: { timeoutMs: number }): Promise<ChurnResult> {
      clearInterval(pacing);
      const endMs = performance.now() + request.timeoutMs;
      while (started > served + failed && performance.now() < endMs) await delay(10);
      return { started, served, failed };
    },
  };
}
