import { expect, onTestFinished, test, vi } from 'vitest';
import { limitLog } from '../../src/log.js';
import type { FleetTelling } from '../../src/server/forward/fleet/fleet-telling.js';
import type { Client } from '../../src/server/mqtt/sessions/client.js';
import type { Registry } from '../../src/server/mqtt/sessions/registry.js';
import { openTakeOver } from '../../src/server/mqtt/sessions/taking/take-over.js';
import { openTestLog } from '../support/forwarding.js';

test('clients with long names are told of in as many messages as NATS takes', async () => {
  const maxBytes = 100_000;
  const told: string[] = [];
  const telling: FleetTelling = {
    open: true,
    tell(_subject, text) {
      if (text.length > maxBytes) return false;
      told.push(...JSON.parse(text).connections.map(([key]: [string]) => key));
      return true;
    },
    reached: async () => {},
    hear: () => () => {},
  };
  const log = limitLog(openTestLog().log);
  const registry = {} as Registry;
  const takeOver = openTakeOver({ telling, registry, replica: 'r', store: { durable: true }, log });
  onTestFinished(() => {
    takeOver.close();
    log.close();
  });
  const keys = Array.from({ length: 500 }, (_, number) => `${number}.${'x'.repeat(3_000)}`);
  for (const key of keys)
    takeOver.announce({ key, admittedAtMs: 0, connection: { isConnected: true } } as Client);
  await vi.waitFor(() => expect(told.length).toBe(keys.length));
  expect(told).toEqual(keys);
});
