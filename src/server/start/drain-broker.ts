import { setTimeout as delay } from 'node:timers/promises';
import type { Log } from '../../log.js';
import type { RunningForwarder } from '../forward/start-forwarder.js';
import type { Broker } from '../mqtt/broker.js';

/** How often wills that wait for room, and sessions that wait for NATS, are looked at when the server stops. */
const waitingWillsPollMs = 20;

/**
 * Nothing more is read; what was taken is stored and acknowledged; then connections close, and their wills are stored.
 */
export async function drainBroker(
  broker: Broker,
  { forwarder, shared }: Pick<RunningForwarder, 'forwarder' | 'shared'>,
  timeoutMs: number,
  log: Log,
): Promise<void> {
  const endMs = performance.now() + timeoutMs;
  // What is stored may have to be kept for others, too.
  const drain = async (withinMs: number) => {
    const drainEndMs = performance.now() + withinMs;
    const left = await forwarder.drain(withinMs);
    return left + ((await shared?.drain(drainEndMs - performance.now())) ?? 0);
  };
  // Ahead of the end of its clients: what they are given from now on they may not acknowledge.
  shared?.messages.leave();
  await broker.stopReading();
  // Wills are stored last; a message that cannot be stored must not take all of the time.
  await drain((endMs - performance.now()) * 0.75);
  await broker.close();
  while (broker.waitingWills() + broker.sessions().waiting > 0 && performance.now() < endMs)
    await delay(waitingWillsPollMs);
  const left = (await drain(endMs - performance.now())) + broker.waitingWills();
  if (left > 0) {
    log.warn(
      { event: 'drain_incomplete', messages: left },
      'Messages were not stored in time and are not acknowledged',
    );
  }
}
