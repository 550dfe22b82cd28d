import { setTimeout as delay } from 'node:timers/promises';
import { connect } from 'nats';
import { expect, test } from 'vitest';
import { packet, type RawClient, subscribePacket, uint16 } from '../support/raw-client.js';
import { addDevice, connectDevice, startGateway, startReplica, until } from './gateway.js';

const forMs = 6_000;
const everyMs = 50;

test('a client that connects 20 times a second, now here, now there, loses no command and is left with one connection', async ({
  onTestFinished,
  annotate,
}) => {
  const gateway = await startGateway(onTestFinished);
  const other = await startReplica(onTestFinished, gateway);
  const servers = [gateway.server, other];
  const device = await addDevice(gateway.server.httpPort);
  const observer = await connect({ servers: gateway.nats.url });
  onTestFinished(() => observer.close());
  const stream = observer.jetstream();
  const got = new Set<number>();
  const again = new Set<number>();
  const wrong: string[] = [];

  /** Takes and acknowledges what comes for as long as the connection lives. */
  async function take(client: RawClient): Promise<void> {
    for (;;) {
      const next = await client.next().catch(() => undefined);
      if (next === undefined) return;
      if (next.type !== 3) continue;
      const end = 2 + next.body.readUInt16BE(0);
      const number = Number(next.body.subarray(end + 2));
      if (got.has(number)) again.add(number);
      got.add(number);
      client.send(packet(0x40, uint16(next.body.readUInt16BE(end))));
    }
  }

  const first = await connectDevice(gateway.server.mqttPort, device, { clean: false });
  onTestFinished(() => first.client.destroy());
  first.client.send(subscribePacket(1, [[`cmd/${device.id}/#`, 1]]));
  expect((await first.client.next()).type).toBe(9);
  void take(first.client);

  let over = false;
  let sent = 0;
  const sending = (async () => {
    while (!over) {
      await stream.publish(`cmd.${device.id}.go`, String(sent));
      sent += 1;
      await delay(10);
    }
  })();

  const attempts: Promise<void>[] = [];
  const codes = new Map<number | undefined, number>();
  const startMs = performance.now();
  for (let round = 1; performance.now() - startMs < forMs; round += 1) {
    attempts.push(
      (async () => {
        const port = servers[round % 2]?.mqttPort ?? 0;
        const { client, code, sessionPresent } = await connectDevice(port, device, { clean: false });
        onTestFinished(() => client.destroy());
        codes.set(code, (codes.get(code) ?? 0) + 1);
        if (code === 0 && !sessionPresent) wrong.push('the session was gone');
        if (code === 0) await take(client);
      })().catch(() => {
        // The next one took it over before it was let in.
        codes.set(undefined, (codes.get(undefined) ?? 0) + 1);
      }),
    );
    await delay(everyMs - ((performance.now() - startMs) % everyMs));
  }
  over = true;
  await sending;
  const connections = async () => {
    const counts = await Promise.all(
      servers.map(async ({ httpPort }) => {
        const answer = await fetch(`http://127.0.0.1:${httpPort}/stats`);
        return ((await answer.json()) as { connections: { open: number } }).connections.open;
      }),
    );
    return counts.reduce((sum, count) => sum + count, 0);
  };
  await until('one connection is left', async () => (await connections()) <= 1);
  if ((await connections()) === 0) {
    const last = await connectDevice(gateway.server.mqttPort, device, { clean: false });
    onTestFinished(() => last.client.destroy());
    expect([last.code, last.sessionPresent]).toEqual([0, true]);
    void take(last.client);
  }
  await until('every command has come', () => got.size === sent);
  expect(await connections()).toBe(1);
  expect(wrong).toEqual([]);
  // The records that were written: each connection takes its session, and some acknowledgements with it.
  const manager = await observer.jetstreamManager();
  const writes = (await manager.streams.info('KV_svc-mqtt-sessions')).state.last_seq;
  await annotate(
    `${attempts.length} connections ${JSON.stringify([...codes])}, ${sent} commands, ${again.size} again, ${writes} records`,
  );
  expect(writes).toBeLessThan(6 * attempts.length);
});
