import { randomBytes } from 'node:crypto';
import type { FleetTelling } from '../fleet/fleet-telling.js';
import type { ForwarderLimits } from '../lanes/forwarding.js';
import { openFleetInterest } from './fleet-interest.js';
import { openFleetMessages } from './fleet-messages.js';
import { openRetainedStore } from './retained-store.js';
import type { StateContext } from './state-stream.js';
import { startStateWriter } from './state-writer.js';

export type SharedState = ReturnType<typeof openSharedState>;

/**
 * What replicas share beside the messages of the uplink, in streams that svc-mqtt makes for itself.
 *
 * @param maxIndexed messages between devices of which a replica knows where they are.
 */
export function openSharedState(
  context: StateContext,
  telling: FleetTelling,
  limits: ForwarderLimits,
  maxIndexed: number,
) {
  const replica = randomBytes(8).toString('hex');
  const writer = startStateWriter({ ...context, limits });
  const retained = openRetainedStore(context, writer);
  const interest = openFleetInterest({ telling, replica, log: context.log });
  const messages = openFleetMessages(context, { writer, interest, replica, maxIndexed });
  const parts = [retained, messages];
  return {
    retained,
    messages,
    /** Resolves when everything has been read that there was, or cannot be, at the latest after `timeoutMs`. */
    async ready(timeoutMs: number): Promise<void> {
      await Promise.all(parts.map((part) => part.ready(timeoutMs)));
    },
    /** Waits until everything given is stored, and has its takers, at most until `timeoutMs`; answers how many messages are not. */
    async drain(timeoutMs: number): Promise<number> {
      const endMs = performance.now() + timeoutMs;
      const left = await writer.drain(timeoutMs);
      return left + (await messages.drain(endMs - performance.now()));
    },
    close(): Promise<void> {
      for (const part of parts) part.close();
      return writer.close();
    },
  };
}
