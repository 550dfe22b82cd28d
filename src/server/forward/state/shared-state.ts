import { randomBytes } from 'node:crypto';
import type { FleetTelling } from '../fleet/fleet-telling.js';
import type { ForwarderLimits } from '../lanes/forwarding.js';
import { openFleetInterest } from './fleet-interest.js';
import { type FleetMessages, openFleetMessages } from './fleet-messages.js';
import { openRetainedStore, type RetainedStore } from './retained-store.js';
import type { StateContext } from './state-stream.js';
import { startStateWriter } from './state-writer.js';

/** What replicas share beside the messages of the uplink, in streams that svc-mqtt makes for itself. */
export interface SharedState {
  readonly retained: RetainedStore;
  readonly messages: FleetMessages;
  /** Resolves when everything has been read that there was, or cannot be, at the latest after `timeoutMs`. */
  ready(timeoutMs: number): Promise<void>;
  /** Waits until everything given is stored, and has its takers, at most until `timeoutMs`; answers how many messages are not. */
  drain(timeoutMs: number): Promise<number>;
  close(): Promise<void>;
}

/** @param maxIndexed messages between devices of which a replica knows where they are. */
export function openSharedState(
  context: StateContext,
  telling: FleetTelling,
  limits: ForwarderLimits,
  maxIndexed: number,
): SharedState {
  const replica = randomBytes(8).toString('hex');
  const writer = startStateWriter({ ...context, limits });
  const retained = openRetainedStore(context, writer);
  const interest = openFleetInterest({ telling, replica, log: context.log });
  const messages = openFleetMessages(context, { writer, interest, replica, maxIndexed });
  const parts = [retained, messages];
  return {
    retained,
    messages,
    async ready(timeoutMs) {
      await Promise.all(parts.map((part) => part.ready(timeoutMs)));
    },
    async drain(timeoutMs) {
      const endMs = performance.now() + timeoutMs;
      const left = await writer.drain(timeoutMs);
      return left + (await messages.drain(endMs - performance.now()));
    },
    close() {
      for (const part of parts) part.close();
      return writer.close();
    },
  };
}
