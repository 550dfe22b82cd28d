import fc from 'fast-check';
import { expect, it } from 'vitest';
import { openDeviceRoom } from '../../src/server/mqtt/admission/device-room.js';

const most = 1_000;
const requests = fc.array(
  fc.record({
    device: fc.integer({ min: 0, max: 9 }).map(String),
    amount: fc.integer({ min: 1, max: 150 }),
    giveBack: fc.boolean(),
  }),
  { maxLength: 200 },
);

it('gives a device an eighth of what is left, and its first whenever there is as much', () => {
  fc.assert(
    fc.property(requests, (all) => {
      const room = openDeviceRoom(most);
      const given: { device: string; amount: number }[] = [];
      const sum = (amounts: { amount: number }[]) => amounts.reduce((total, { amount }) => total + amount, 0);
      for (const { device, amount, giveBack } of all) {
        const own = given.findIndex((each) => each.device === device);
        if (giveBack && own !== -1) {
          for (const each of given.splice(own, 1)) room.giveBack(device, each.amount);
          continue;
        }
        const held = sum(given.filter((each) => each.device === device));
        const free = most - sum(given);
        const expected = amount <= free && (held === 0 || held + amount <= free / 8);
        expect(room.take(device, amount)).toBe(expected);
        if (expected) given.push({ device, amount });
      }
      for (const { device, amount } of given) room.giveBack(device, amount);
      expect(room.take('whoever', most)).toBe(true);
    }),
  );
});

it('has something left for another, however many devices have their share', () => {
  const room = openDeviceRoom(1_000_000);
  for (let device = 0; device < 50; device += 1) while (room.take(`greedy ${device}`, 1));
  for (let time = 0; time < 10; time += 1) expect(room.take('modest', 1)).toBe(true);
});
