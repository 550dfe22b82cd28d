import { describe, expect, it } from 'vitest';
import { openLoginGuard } from '../../src/server/mqtt/admission/login-guard.js';

function openBench(bounds: { perDevice?: number; perAddress?: number; maxDevices?: number } = {}) {
  let nowMs = 0;
  const guard = openLoginGuard({
    perDevice: 3,
    perAddress: 6,
    maxDevices: 100,
    ...bounds,
    nowMs: () => nowMs,
  });
  return {
    guard,
    fail(deviceId: string, address: string, times = 1): void {
      for (let time = 0; time < times; time += 1) guard.onRefused([deviceId], address, 'bad-credentials');
    },
    pass: (ms: number) => {
      nowMs += ms;
    },
  };
}

describe('wrong logins', () => {
  it('as one device from one address are refused after so many, and let in again after a while', () => {
    const { guard, fail, pass } = openBench();
    fail('d', 'here', 2);
    expect(guard.check(['d'], 'here')).toBeUndefined();
    fail('d', 'here');
    expect(guard.check(['d'], 'here')).toBe('failed-logins-per-device');
    expect(guard.check(['other'], 'here')).toBeUndefined();
    pass(19_999);
    expect(guard.check(['d'], 'here')).toBe('failed-logins-per-device');
    pass(2);
    expect(guard.check(['d'], 'here')).toBeUndefined();
  });

  it('do not lock the device out elsewhere, nor from where it logged in last', () => {
    const { guard, fail } = openBench();
    guard.onSuccess('d', 'home');
    fail('d', 'stranger', 50);
    fail('d', 'home', 50);
    expect(guard.check(['d'], 'stranger')).toBeDefined();
    expect(guard.check(['d'], 'home')).toBeUndefined();
    expect(guard.check(['d'], 'new home')).toBeUndefined();
  });

  it('of many devices from one address are refused after so many, also of those that do not exist', () => {
    const { guard, fail } = openBench();
    for (let device = 0; device < 6; device += 1) fail(`guess ${device}`, 'here');
    expect(guard.check(['guess 7'], 'here')).toBe('failed-logins-per-address');
    expect(guard.check([], 'here')).toBe('failed-logins-per-address');
    expect(guard.check(['guess 7'], 'there')).toBeUndefined();
  });

  it('are made up for by right ones, so that a few stale devices do not stop a fleet behind the same address', () => {
    const { guard, fail } = openBench();
    for (let device = 0; device < 100; device += 1) {
      expect(guard.check([`d${device}`], 'nat')).toBeUndefined();
      if (device % 2 === 0) guard.onSuccess(`d${device}`, 'nat');
      else fail(`d${device}`, 'nat');
    }
  });

  it('count only when the login was wrong', () => {
    const { guard } = openBench();
    for (const reason of [
      'database-away',
      'revoked-at-connect',
      'expired-at-connect',
      'will-denied',
    ] as const) {
      for (let time = 0; time < 20; time += 1) guard.onRefused(['d'], 'here', reason);
    }
    expect(guard.check(['d'], 'here')).toBeUndefined();
    for (let time = 0; time < 20; time += 1) guard.onRefused(['d'], 'here', 'certificate-mismatch');
    expect(guard.check(['d'], 'here')).toBeDefined();
  });

  it('are not counted with bounds of 0', () => {
    const { guard, fail } = openBench({ perDevice: 0, perAddress: 0 });
    fail('d', 'here', 10_000);
    expect(guard.check(['d'], 'here')).toBeUndefined();
  });

  it('of a device whose last address was forgotten count again', () => {
    const { guard, fail } = openBench({ maxDevices: 2, perAddress: 0 });
    for (const device of ['one', 'two', 'three']) guard.onSuccess(device, 'home');
    for (const device of ['one', 'three']) fail(device, 'home', 3);
    expect(guard.check(['one'], 'home')).toBe('failed-logins-per-device');
    expect(guard.check(['three'], 'home')).toBeUndefined();
  });
});
