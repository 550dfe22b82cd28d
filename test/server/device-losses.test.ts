import { expect, test } from 'vitest';
import type { DeviceCredentials } from '../../src/db/devices/device-credentials.js';
import { lossOf } from '../../src/server/directory/device-losses.js';

const secret = (name: string) => ({ hash: Buffer.from(`hash ${name}`), salt: Buffer.from(`salt ${name}`) });

function device(current: string, previous?: { name: string; untilMs: number }): DeviceCredentials {
  const { hash, salt } = secret(current);
  return {
    id: 'd',
    type: 'sensor',
    secretHash: hash,
    secretSalt: salt,
    previousSecret: previous && { ...secret(previous.name), untilMs: previous.untilMs, untilUsed: false },
    revokedAtMs: undefined,
    expiresAtMs: undefined,
  };
}

const changed = 'changed';

test.for([
  ['goes on', 60_000],
  ['is over when this replica hears of it', -60_000],
] as const)('a secret that was replaced with a grace is not lost while the grace %s', ([, inMs]) => {
  const now = device('new', { name: 'old', untilMs: Date.now() + inMs });
  expect(lossOf(device('old'), now, changed)).toBeUndefined();
});

test('a secret that was replaced without a grace, or before the one that has one, is lost', () => {
  expect(lossOf(device('old'), device('new'), changed)).toBe('secret-changed');
  const later = device('newest', { name: 'new', untilMs: Date.now() + 60_000 });
  expect(lossOf(device('old'), later, changed)).toBe('secret-changed');
});
