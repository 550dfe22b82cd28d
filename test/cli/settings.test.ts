import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Command } from 'commander';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { readCommandConfig } from '../../src/cli/command/flags.js';
import { addSettingOptions, settingSelections } from '../../src/cli/command/setting-options.js';
import { describeSchema, settingEntries } from '../../src/config.js';
import { parseDatabaseUrl } from '../../src/db/connection/dsn.js';
import { readConfig } from '../../src/read-config.js';
import { makeTempDir } from './support.js';

let dir: ReturnType<typeof makeTempDir>;
const fileOf = (name: string, content: string) => {
  const path = join(dir.path, name);
  writeFileSync(path, content);
  return path;
};
beforeAll(() => {
  dir = makeTempDir();
});
afterAll(() => dir.remove());

test('a number over its bound is refused by name with the largest there may be', () => {
  expect(readConfig({ env: { MAX_TOPIC_LEVELS: '100' } }).maxTopicLevels).toBe(100);
  for (const levels of ['101', '200', '65536']) {
    expect(() => readConfig({ env: { MAX_TOPIC_LEVELS: levels } })).toThrow(/MAX_TOPIC_LEVELS.*\b100\b/);
  }
});

test('the wait of the start is a duration with its unit, or 0', () => {
  for (const wait of ['0', '60s', '10m', '1h']) {
    expect(readConfig({ env: { START_WAIT: wait } }).startWait).toBe(wait);
  }
  for (const wait of ['60', '1.5s', '-1s', '10 m', 'long', '0s']) {
    expect(() => readConfig({ env: { START_WAIT: wait } })).toThrow(/START_WAIT.*such as 60s/);
  }
});

describe('a value from a file with line ends of Windows', () => {
  const ended = { DATA_DIR: 'data', NATS_PASSWORD: ' pass word ', MQTT_PORT: '1884', NATS_URL: 'nats://h' };
  const plain = { dataDir: 'data', natsPassword: ' pass word ', mqttPort: 1884, natsUrl: 'nats://h' };

  test.each(['', '\r', '\n', '\r\n', '\r\n\r\n'])(
    'is what stands before %j, wherever it comes from',
    (end) => {
      const env = Object.fromEntries(Object.entries(ended).map(([name, value]) => [name, value + end]));
      expect(readConfig({ env })).toMatchObject(plain);
      const path = fileOf('password', ` pass word ${end}`);
      expect(readConfig({ env: { NATS_PASSWORD_FILE: path + end } }).natsPassword).toBe(' pass word ');
      const flags = { dataDir: `data${end}`, mqttPort: `1884${end}` };
      expect(readConfig({ env: {}, flags })).toMatchObject({ dataDir: 'data', mqttPort: 1884 });
      // Nothing but a line end is nothing.
      expect(readConfig({ env: { NATS_PASSWORD: end } }).natsPassword).toBeUndefined();
    },
  );

  test('and any other control character is refused by name, and the value not shown', () => {
    for (const text of ['se\rkrit', 'se\nkrit', '\nsekrit', 'se\0krit', 'sekrit\t']) {
      const read = () => readConfig({ env: { NATS_PASSWORD: text, DATA_DIR: text } });
      expect(read).toThrow(/NATS_PASSWORD holds a control character/);
      expect(read).toThrow(/DATA_DIR holds a control character/);
      expect(read).not.toThrow(/krit/);
    }
    const dsn = 'host=h\n\tdbname=d';
    expect(readConfig({ env: { DATABASE_DSN: `${dsn}\r\n` } }).databaseUrl).toBe(dsn);
  });
});

describe('a secret', () => {
  test('is read from the file that its variable with _FILE names, without the line break at its end', () => {
    const path = fileOf('token', 'a-token-of-some-length\n');
    expect(readConfig({ env: { API_TOKEN_FILE: path } }).apiToken).toBe('a-token-of-some-length');
  });

  test('is read from the file that its option names, which beats the environment', () => {
    const path = fileOf('url', 'postgres://u:p@h/d\r\n');
    const config = readCommandConfig({ databaseUrlFile: path }, { DATABASE_URL: 'postgres://other/d' });
    expect(config.databaseUrl).toBe('postgres://u:p@h/d');
  });

  test('whose / is not escaped is not taken for a host', () => {
    for (const url of ['postgres://u:pa/se@krit@db/d', 'postgres://u:p@sekrit/word@db/d'])
      expect(() => parseDatabaseUrl(url)).toThrow(/^DATABASE_URL has an "@" behind a "\/"$/);
  });

  test('given twice, in a missing, empty or huge file is refused without being shown', () => {
    mkdirSync(join(dir.path, 'directory'), { recursive: true });
    const cases = [
      { API_TOKEN: 'sekrit-sekrit-sekrit', API_TOKEN_FILE: fileOf('t', 'x'.repeat(20)) },
      { API_TOKEN_FILE: join(dir.path, 'missing') },
      { API_TOKEN_FILE: join(dir.path, 'directory') },
      { API_TOKEN_FILE: fileOf('empty', '\n') },
      { API_TOKEN_FILE: fileOf('huge', 'x'.repeat(65_537)) },
      { API_TOKEN_FILE: fileOf('short', 'sekrit') },
    ];
    for (const env of cases) {
      expect(() => readConfig({ env })).toThrow(/API_TOKEN_FILE/);
      expect(() => readConfig({ env })).not.toThrow(/sekrit/);
    }
  });

  test('is no argument: a URL with a password is refused, one without is taken', () => {
    for (const url of [
      'postgres://u:sekrit@h/d',
      'host=h password=sekrit',
      'postgres://u@h/d?password=sekrit',
    ]) {
      expect(() => readCommandConfig({ databaseUrl: url }, {})).toThrow(
        /DATABASE_URL or use --database-url-file/,
      );
      expect(() => readCommandConfig({ databaseUrl: url }, {})).not.toThrow(/sekrit/);
    }
    for (const url of ['nats://u:sekrit@h', 'nats://sekrit@h', 'a:1,u:sekrit@b:2']) {
      expect(() => readCommandConfig({ natsUrl: url }, {})).toThrow(/NATS_URL or use --nats-url-file/);
    }
    for (const url of ['postgres://u@h:5432/d', 'host=h user=u dbname=d', 'postgres:///d?host=/run']) {
      expect(readCommandConfig({ databaseUrl: url }, {}).databaseUrl).toBe(url);
    }
    expect(readCommandConfig({ natsUrl: 'nats://a:4222,b:4222' }, {}).natsUrl).toBe('nats://a:4222,b:4222');
  });
});

test('an option beats the environment, which beats the default', () => {
  expect(readCommandConfig({}, {}).mqttPort).toBe(1883);
  expect(readCommandConfig({}, { MQTT_PORT: '1884' }).mqttPort).toBe(1884);
  expect(readCommandConfig({ mqttPort: '1885' }, { MQTT_PORT: '1884' }).mqttPort).toBe(1885);
  expect(readCommandConfig({ jetstream: false }, { ENABLE_JETSTREAM: 'true' }).enableJetstream).toBe(false);
});

test('an option that turns a setting off says what it does, not what the setting does', () => {
  const command = new Command();
  addSettingOptions(command, settingSelections.all);
  const shown = command.options.filter(({ negate, hidden }) => negate && !hidden);
  expect(shown.map(({ long }) => long)).toEqual(['--no-migrate', '--no-jetstream', '--no-mqtt-tcp']);
  for (const [, { flag, help, env, default: isOn }] of settingEntries) {
    const option = shown.find(({ long }) => long === `--no-${flag}`);
    expect(option !== undefined, flag).toBe(isOn === true);
    if (option === undefined) continue;
    expect(option.description).not.toContain(help);
    expect(option.description).toContain(`${env[0]}=false`);
  }
});

test('what a setting accepts is told in words, never as a regular expression', () => {
  for (const [, { flag, schema }] of settingEntries)
    expect(describeSchema(schema), flag).not.toMatch(/[\^$\\]/);
  expect(() => readCommandConfig({ listenAddr: 'foo' }, {})).toThrow(
    '--listen-addr cannot be "foo": it must be host:port or :port',
  );
});

test('every problem is told at once', () => {
  const read = () => readCommandConfig({ acl: 'none', mqttPort: 'x' }, { LOG_LEVEL: 'loud' });
  for (const part of ['--acl', '--mqtt-port', 'LOG_LEVEL']) expect(read).toThrow(part);
});
