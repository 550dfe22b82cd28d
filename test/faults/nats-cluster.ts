import { connect } from 'nats';
import { freePort } from '../support/free-port.js';
import { startNatsServer } from '../support/nats-server.js';
import { type OnFinished, until } from './gateway.js';

/** Three servers that keep every stream on all of them, as that of the uplink is. */
export async function startCluster(onFinished: OnFinished) {
  const ports = [await freePort(), await freePort(), await freePort()];
  const routes = ports.map((port) => `nats://127.0.0.1:${port}`).join(', ');
  const servers = await Promise.all(
    ports.map((port, index) =>
      startNatsServer({
        configExtra: `server_name: n${index}\ncluster { name: test, listen: "127.0.0.1:${port}", routes: [${routes}] }`,
      }),
    ),
  );
  onFinished(async () => {
    await Promise.all(servers.map((server) => server.stop()));
  });
  const urls = servers.map(({ url }) => url);
  const observer = await connect({ servers: urls, maxReconnectAttempts: -1 });
  onFinished(() => observer.close());
  const streams = async () => (await observer.jetstreamManager({ timeout: 2_000, checkAPI: false })).streams;
  await until('there is a stream on three servers', async () => {
    const added = (await streams()).add({ name: 'RAW', subjects: ['raw.>'], num_replicas: 3 });
    return await added.then(
      () => true,
      () => false,
    );
  });
  return {
    urls,
    observer,
    read: async (stream: string) => (await streams()).info(stream),
    /** Ends the server that leads a stream, and starts it again. */
    async killLeader(stream: string): Promise<void> {
      await until(`every server has ${stream}`, async () => {
        const cluster = (await (await streams()).info(stream).catch(() => undefined))?.cluster;
        return cluster?.leader !== undefined && cluster.replicas?.every(({ current }) => current) === true;
      });
      const leader = async () => (await (await streams()).info(stream)).cluster?.leader;
      let name: string | undefined;
      await until('the stream has a leader', async () => {
        name = await leader().catch(() => undefined);
        return name !== undefined;
      });
      const server = servers[Number(name?.slice(1))];
      await server?.kill();
      await server?.restart();
    },
  };
}
