import { connect, headers as natsHeaders } from 'nats';
import { expect, test } from 'vitest';
import { foreignClients, type Seen } from '../support/mqtt5-clients.js';
import { addDevice, startGateway } from './gateway.js';

for (const client of foreignClients) {
  test(`${client.name}, MQTT 5: messages with properties, and the reasons of a refusal and of a kick`, async ({
    onTestFinished,
    skip,
  }) => {
    if (process.env.CI !== 'true') skip(client.missing !== undefined, `not installed: ${client.missing}`);
    expect(client.missing).toBeUndefined();
    const { server, nats } = await startGateway(onTestFinished);
    const api = `http://127.0.0.1:${server.httpPort}`;
    const device = await addDevice(server.httpPort);
    const seen = client.start(onTestFinished, server.mqttPort, device, 'raw/of-somebody-else');
    const waitFor = (what: string, count: number) =>
      expect.poll(() => seen.filter(([name]) => name === what), { timeout: 60_000 }).toHaveLength(count);

    // A publish outside the policy is answered, and the connection lives.
    await waitFor('answered', 3);
    const observer = await connect({ servers: nats.url });
    onTestFinished(() => observer.close());
    const { streams } = await observer.jetstreamManager();
    for (const seq of [1, 2, 3]) {
      const { header, data } = await streams.getMessage('RAW', { seq });
      expect([Buffer.from(data).toString(), header.get('Content-Type'), header.values('a')]).toEqual([
        'hello',
        'text/plain',
        ['1', '2'],
      ]);
    }
    expect((await streams.info('RAW')).state.messages).toBe(3);

    const headers = natsHeaders();
    headers.append('Content-Type', 'application/json');
    headers.append('site', 'graz');
    headers.append('site', 'wien');
    observer.publish(`cmd.${device.id}.set`, '{}', { headers });
    await waitFor('command', 1);

    const { connections } = (await (await fetch(`${api}/connections?device=${device.id}`)).json()) as {
      connections: { id: string; protocol: string }[];
    };
    expect(connections.map(({ protocol }) => protocol)).toEqual(['5.0']);
    await fetch(`${api}/connections/${connections[0]?.id}`, { method: 'DELETE' });
    await waitFor('ended', 1);
    const answered = ([what]: Seen) => what === 'answered';
    expect(seen.filter(answered).sort()).toEqual([
      ['answered', 1, 0],
      ['answered', 1, 0x87],
      ['answered', 2, 0],
    ]);
    expect(seen.filter((each) => !answered(each))).toEqual([
      ['connected', 0],
      ['subscribed', 1],
      [
        'command',
        `cmd/${device.id}/set`,
        '{}',
        'application/json',
        [
          ['site', 'graz'],
          ['site', 'wien'],
        ],
      ],
      ['ended', 0x98],
    ]);
  });
}
