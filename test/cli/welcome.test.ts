import { expect, test } from 'vitest';
import { toWelcome, welcomes } from '../../src/cli/serve/welcome.js';
import { isShownAtStart } from '../../src/log.js';
import { readConfig } from '../../src/read-config.js';
import { fakeIo } from './support.js';

const ports = { mqtt: 1883, mqtts: undefined, ws: 8083, wss: undefined, http: 9091 };
const nats = 'nats://127.0.0.1:4222';

test('in a terminal a server says what runs, where, and what to do next', () => {
  const config = readConfig({ env: { DATA_DIR: '/data' } });
  const text = toWelcome(config, { ports, nats, database: '/data answers' }, { NO_COLOR: '1' });
  expect(text.replace(/svc-mqtt \d\S+/, 'svc-mqtt 1.2.3')).toBe(`
svc-mqtt 1.2.3 is ready
  MQTT           mqtt://127.0.0.1:1883, and on every other address
                 ws://127.0.0.1:8083/mqtt, and on every other address
  HTTP API       http://127.0.0.1:9091
  console        http://127.0.0.1:9091/
  documentation  http://127.0.0.1:9091/docs
  NATS           nats://127.0.0.1:4222, a server of its own
  database       /data, embedded

Next: add a device, in another terminal, from this directory
  svc-mqtt device add --type sensor

Ctrl-C stops the server. Its log follows.

`);
  for (const line of text.split('\n')) expect(line.length).toBeLessThanOrEqual(80);
});

test('it names addresses as they are set, the command as it can be called, and no terminal is driven', () => {
  const config = readConfig({
    env: {
      DATABASE_URL: 'postgres://u:sekrit@db/svc',
      NATS_URL: 'nats://u:sekrit@nats',
      MQTT_HOST: '192.0.2.7',
      LISTEN_ADDR: '[2001:db8::1]:9091',
    },
  });
  const where = { ports, nats: 'nats://nats:4222', database: 'postgres://db:5432/svc answers\u001b[2J' };
  const text = toWelcome(config, where, { npm_command: 'start' });
  expect(text).toContain('mqtt://192.0.2.7:1883\n');
  expect(text).toContain('http://[2001:db8::1]:9091/docs\n');
  expect(text).toContain('postgres://db:5432/svc answers\\u001b[2J\n');
  expect(text).toContain('Next: add a device, in another terminal\n');
  expect(text).toContain('npx svc-mqtt device add');
  expect(text).not.toContain('sekrit');
});

test('meanwhile warnings are shown, and what takes long, and the rest of the log is not', () => {
  const shown = (level: number, event: string) => isShownAtStart(JSON.stringify({ level, event, msg: 'm' }));
  expect(shown(30, 'http_listening')).toBe(false);
  expect(shown(30, 'nats_server_install')).toBe(true);
  expect(shown(40, 'open_files_low')).toBe(true);
  expect(shown(60, 'uncaught_exception')).toBe(true);
});

test('who asks for a form or level of the log, or has no terminal, gets the log as it is', () => {
  const io = fakeIo();
  const read = (env: Record<string, string>) => welcomes(readConfig({ env }), io);
  expect(read({})).toBe(false);
  Object.assign(io.stderr, { isTTY: true });
  expect(read({})).toBe(true);
  for (const env of [
    { LOG_FORMAT: 'json' },
    { LOG_FORMAT: 'pretty' },
    { LOG_LEVEL: 'debug' },
    { LOG_LEVEL: 'warn' },
  ])
    expect(read(env)).toBe(false);
});
