import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect } from 'node:net';
import { Registry } from 'prom-client';
import { expect, onTestFinished, test } from 'vitest';
import { addAcceptQueue } from '../../src/server/metrics/accept-queue.js';

const server = `
const server = require('node:net').createServer();
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
`;

test.runIf(process.platform === 'linux')(
  'counts the connections that a process has not accepted',
  async () => {
    const child = spawn(process.execPath, ['-e', server], { stdio: ['ignore', 'pipe', 'inherit'] });
    onTestFinished(() => {
      child.kill('SIGKILL');
    });
    const [text] = (await once(child.stdout, 'data')) as [Buffer];
    const port = Number(text.toString());
    // One that is held up accepts nothing.
    child.kill('SIGSTOP');
    const registry = new Registry();
    addAcceptQueue(registry, () => [port]);
    expect(await registry.metrics()).toContain('\nsvc_mqtt_accept_queue_connections 0\n');
    for (let count = 0; count < 5; count += 1) {
      const client = connect({ host: '127.0.0.1', port });
      onTestFinished(() => {
        client.destroy();
      });
      await once(client, 'connect');
    }
    expect(await registry.metrics()).toContain('\nsvc_mqtt_accept_queue_connections 5\n');
  },
);
