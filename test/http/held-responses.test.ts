import { createServer, get, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
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
