import { afterAll, beforeAll, describe, expect, it, test } from 'vitest';
import { connected, openDatabase, publishAndWait, until } from '../faults/gateway.js';
import { freePort } from '../support/free-port.js';
import { readStored } from '../support/load.js';
import { startNatsServer } from '../support/nats-server.js';
import { readText } from './support/files.js';
import { buildImage, type Container, imageBase, podman, startContainer } from './support/image.js';

it('the container image can be built here', ({ skip }) => {
  const reason = process.env.TEST_IMAGE_MISSING ?? 'TEST_IMAGE_BASE names no image to build on';
  skip(imageBase === undefined, `the image is not built: ${reason}`);
});

describe.skipIf(imageBase === undefined)('the container image', () => {
  const undo: (() => Promise<unknown> | unknown)[] = [];
  let image: string;
  let container: Container;
  let natsUrl: string;
  let mqttPort: number;
  let api: string;

  beforeAll(async () => {
    image = await buildImage(imageBase ?? '');
    undo.push(() => podman('rmi', '--force', image));
    const nats = await startNatsServer();
    undo.push(() => nats.stop());
    natsUrl = nats.url;
    mqttPort = await freePort();
    const httpPort = await freePort();
    api = `http://127.0.0.1:${httpPort}`;
    container = startContainer(image, {
      DATABASE_URL: await openDatabase((release) => undo.push(release)),
      NATS_URL: natsUrl,
      MQTT_PORT: String(mqttPort),
      LISTEN_ADDR: `127.0.0.1:${httpPort}`,
      LOG_FORMAT: 'json',
    });
    undo.push(() => container.remove());
    let isOver = false;
    void container.ended.then(() => {
      isOver = true;
    });
    await until('it is ready', async () => {
      if (isOver) throw new Error(container.output());
      return fetch(`${api}/readyz`).then(
        ({ ok }) => ok,
        () => false,
      );
    });
  }, 900_000);

  afterAll(async () => {
    for (const each of undo.reverse()) await each();
  });

  test('is healthy by its own check', async () => {
    const inspected = await podman('image', 'inspect', '--format', '{{json .HealthCheck.Test}}', image);
    const [kind, ...command] = JSON.parse(inspected) as string[];
    expect(kind).toBe('CMD');
    expect(await container.exec(...command)).toBe('');
    expect(await container.exec('node', '/app/healthcheck.mjs', '/readyz')).toBe('');
  });

  test('runs as nobody in particular, who can do nothing else', async () => {
    const status = await container.exec('cat', '/proc/1/status');
    const fields = Object.fromEntries(
      status.split('\n').map((line) => [line.split(':')[0], line.split(/\s+/).slice(1).join(' ')]),
    );
    expect(fields).toMatchObject({
      Uid: '10001 10001 10001 10001',
      Gid: '10001 10001 10001 10001',
      CapEff: '0000000000000000',
      CapBnd: '0000000000000000',
      NoNewPrivs: '1',
    });
    for (const path of ['/x', '/app/x', '/app/dist/x']) {
      await expect(container.exec('touch', path)).rejects.toThrow('Read-only file system');
    }
    await expect(container.exec('npm', '--version')).rejects.toThrow();
  });

  test('has what the script of fleet-stream in docker-compose.yml imports', async () => {
    await container.exec(
      'node',
      '--input-type=module',
      '--eval',
      "import { connect } from 'nats'; connect.name;",
    );
  });

  test('takes a message of a device and stores it before it acknowledges', async () => {
    const { version } = JSON.parse(readText('package.json')) as { version: string };
    expect(await container.exec('svc-mqtt', '--version')).toContain(version);
    const added = await container.exec('svc-mqtt', 'device', 'add', '--type', 'sensor', '--json');
    const { id, mqtt_password: password } = JSON.parse(added) as { id: string; mqtt_password: string };
    const client = await connected((release) => undo.push(release), mqttPort, { id, password });
    await publishAndWait(client, { id, password }, 'from a container');
    expect(await readStored(natsUrl)).toEqual([{ subject: `raw.${id}`, payload: 'from a container' }]);
  });

  test('drains and ends well when it is stopped', async () => {
    await container.stop(30);
    expect(await container.ended).toBe(0);
    const lines = container
      .output()
      .split('\n')
      .filter((line) => line !== '');
    expect(lines.map((line) => (JSON.parse(line) as { event?: string }).event)).toContain('serve_stopped');
  });
});
