import { createServer, get, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { holdResponses } from '../../src/server/http/held-responses.js';

test('cuts a response whose holder has lost its right, and forgets one that was over already', async () => {
  const asked: string[] = [];
  const held = holdResponses(async (holder) => {
    asked.push(holder);
    return false;
  });
  const responses: ServerResponse[] = [];
  const server = createServer((_request, response) => {
    responses.push(response);
    response.writeHead(200).flushHeaders();
  }).listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  const { port } = server.address() as AddressInfo;
  const ask = () => get({ port, host: '127.0.0.1', agent: false }).on('error', () => {});
  try {
    const left = ask();
    await expect.poll(() => responses.length).toBe(1);
    left.destroy();
    await expect.poll(() => responses[0]?.destroyed).toBe(true);
    const stays = ask();
    await expect.poll(() => responses.length).toBe(2);
    const [over, open] = responses;
    if (over === undefined || open === undefined) throw new Error('there are two');
    held.hold('who left', over);
    held.hold('who stays', open);
    await expect.poll(() => open.destroyed, { timeout: 30_000 }).toBe(true);
    expect(asked).toEqual(['who stays']);
    stays.destroy();
  } finally {
    held.close();
    server.close();
  }
});

test('does not cut an answer that is being made, nor one that is complete', async () => {
  const held = holdResponses(async () => false);
  let answer = () => {};
  const server = createServer((_request, response) => {
    held.hold('who made the first key', response);
    answer = () => response.end('x'.repeat(1_000_000), () => {});
    held.check();
  }).listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  const { port } = server.address() as AddressInfo;
  try {
    const answered = new Promise<number>((resolve, reject) => {
      get({ port, host: '127.0.0.1', agent: false }, (incoming) => {
        let bytes = 0;
        incoming.on('data', (chunk: Buffer) => {
          bytes += chunk.length;
        });
        incoming.on('end', () => resolve(bytes)).on('error', reject);
      }).on('error', reject);
    });
    // The check is made in turns after it was asked for.
    await delay(50);
    answer();
    held.check();
    expect(await answered).toBe(1_000_000);
  } finally {
    held.close();
    server.close();
  }
});
