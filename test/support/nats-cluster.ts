import { freePort } from './free-port.js';
import { startNatsServer, type TestNatsServer } from './nats-server.js';

/**
 * Three servers that hold every stream of three replicas.
 *
 * @param onFinished takes what is to be undone at the end.
 * @param optionsOf what each is started with, read again at each start.
 */
export async function startCluster(
  onFinished: (undo: () => Promise<unknown>) => void,
  optionsOf: readonly { jetstreamExtra?: string; http?: string; program?: string }[] = [],
): Promise<TestNatsServer[]> {
  const ports = [await freePort(), await freePort(), await freePort()];
  const routes = ports.map((port) => `nats://127.0.0.1:${port}`).join(', ');
  const servers = await Promise.all(
    ports.map((port, index) => {
      const { http } = optionsOf[index] ?? {};
      return startNatsServer(
        Object.assign(optionsOf[index] ?? {}, {
          configExtra: [
            `server_name: n${index}`,
            `cluster { name: test, listen: "127.0.0.1:${port}", routes: [${routes}] }`,
            http === undefined ? '' : `http: "${http}"`,
          ].join('\n'),
        }),
      );
    }),
  );
  onFinished(() => Promise.all(servers.map((server) => server.stop())));
  return servers;
}
