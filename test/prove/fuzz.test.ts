import { expect, test } from 'vitest';
import { drawScripts, writeStream } from './broken-streams.js';
import { fuzzProof } from './fuzz.js';
import { expectHeld } from './short-form.js';

test('the same seed draws the same streams, of every version and every kind', () => {
  const scripts = drawScripts(5, 300);
  expect(drawScripts(5, 300)).toEqual(scripts);
  expect(new Set(scripts.map(({ version }) => version))).toEqual(new Set([3, 4, 5]));
  expect(new Set(scripts.map(({ tail }) => tail.type))).toEqual(
    new Set(['none', 'noise', 'changed', 'part', 'huge']),
  );
  const names = { deviceId: 'd', password: 'p', clientId: 'c', payload: (number: number) => `c ${number}` };
  const whole = scripts.find(
    ({ strange, tail, packets }) => !strange && tail.type === 'none' && packets.length > 2,
  );
  if (whole === undefined) throw new Error('no right stream among 300');
  const { chunks, numbers } = writeStream(whole, names);
  const text = Buffer.concat(chunks).toString('latin1');
  for (const { number } of numbers.values()) expect(text).toContain(`c ${number}`);
});

test('two rounds of right and broken streams', () => expectHeld(fuzzProof, 2));
