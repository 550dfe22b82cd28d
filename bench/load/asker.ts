import { setTimeout as delay } from 'node:timers/promises';
import { connect, type NatsConnection } from 'nats';
import { openHistogram } from './histogram.js';

export interface AskResult {
  readonly answered: number;
  readonly failed: number;
  readonly latency: readonly number[];
}

const timeoutMs = 5_000;
const payload = Buffer.alloc(32, 'x');

/** Asks by NATS requests, at a given rate, one subject after the other. */
export function openAsker({ natsUrl, ratePerSec }: { natsUrl: string; ratePerSec: number }) {
  let nats: NatsConnection | undefined;
  let next = 0;

  return {
    async connect(): Promise<void> {
      nats = await connect({ servers: natsUrl });
    },
    async ask({ subjects, forMs }: { subjects: readonly string[]; forMs: number }): Promise<AskResult> {
      const latency = openHistogram();
      let asked = 0;
      let answered = 0;
      let failed = 0;
      const one = async () => {
        const subject = subjects[next % subjects.length] as string;
        next += 1;
        const fromMs = performance.now();
        try {
          const answer = await nats?.request(subject, payload, { timeout: timeoutMs });
          if (answer?.data.length !== payload.length) throw new Error('this is no answer');
          latency.record((performance.now() - fromMs) * 1_000);
          answered += 1;
        } catch {
          failed += 1;
        }
      };
      const startMs = performance.now();
      const pacing = setInterval(() => {
        const due = (Math.min(performance.now() - startMs, forMs) * ratePerSec) / 1_000;
        for (; asked < Math.floor(due); asked += 1) void one();
      }, 1);
      await delay(forMs);
      clearInterval(pacing);
      while (answered + failed < asked) await delay(5);
      return { answered, failed, latency: latency.toJson() };
    },
  };
}
