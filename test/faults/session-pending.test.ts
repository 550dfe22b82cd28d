import { connect } from 'nats';
import { expect, test } from 'vitest';
import { disconnectPacket } from '../support/raw-client.js';
import type { ServerProcess } from '../support/server-process.js';
import { nextCommand, openSubscriber, subscribeToCommands, takeCommands } from './command-client.js';
import { addDevices, startGateway, startReplica, until } from './gateway.js';

/** How long the oldest command waits, as the one replica says that looks after it. */
async function readAge(servers: readonly ServerProcess[]): Promise<number> {
  const ages = await Promise.all(
    servers.map(async ({ httpPort }) => {
      const text = await (await fetch(`http://127.0.0.1:${httpPort}/metrics`)).text();
      return /^svc_mqtt_session_pending_age_seconds (\S+)$/m.exec(text)?.[1];
    }),
  );
  const told = ages.map(Number).filter((age) => age !== 0);
  expect(told.length).toBeLessThanOrEqual(1);
  return told[0] ?? 0;
}

test('one replica says how long the oldest command waits for a session that is away', async ({
  onTestFinished,
}) => {
  const gateway = await startGateway(onTestFinished);
  const servers = [gateway.server, await startReplica(onTestFinished, gateway)];
  const [first, second] = await addDevices(gateway.server.httpPort, 2);
  if (first === undefined || second === undefined) throw new Error('no devices');
  const observer = await connect({ servers: gateway.nats.url });
  onTestFinished(() => observer.close());
  const stream = observer.jetstream();
  for (const device of [first, second]) {
    const { client } = await openSubscriber(onTestFinished, servers[1]?.mqttPort ?? 0, device);
    await subscribeToCommands(client, device);
    if (device === second) {
      // Has this one, and leaves without an acknowledgement of the next.
      await stream.publish(`cmd.${device.id}.go`, 'had');
      await takeCommands(client, 1);
    }
    client.send(disconnectPacket);
    await client.waitClosed();
  }
  const sentAtMs = Date.now();
  await stream.publish(`cmd.${first.id}.go`, 'older');
  await until('it is said that one waits', async () => (await readAge(servers)) > 0);
  await stream.publish(`cmd.${second.id}.go`, 'younger');
  expect(await readAge(servers)).toBeLessThanOrEqual((Date.now() - sentAtMs) / 1_000 + 1);

  const tookAtMs = Date.now();
  const back = await openSubscriber(onTestFinished, servers[0]?.mqttPort ?? 0, first);
  expect((await nextCommand(back.client)).payload).toBe('older');
  await until('it is the other one', async () => {
    const age = await readAge(servers);
    return age > 0 && age < (Date.now() - sentAtMs) / 1_000 - 1;
  });
  expect(await readAge(servers)).toBeGreaterThan((Date.now() - tookAtMs) / 1_000 - 1);
  const also = await openSubscriber(onTestFinished, servers[0]?.mqttPort ?? 0, second);
  expect((await nextCommand(also.client)).payload).toBe('younger');
  await until('none waits', async () => (await readAge(servers)) === 0);
});
