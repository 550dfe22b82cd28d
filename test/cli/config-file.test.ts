import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { readCommandConfig, readCommandSettings } from '../../src/cli/command/flags.js';
import { renderConfigExample } from '../../src/cli/config/example.js';
import { maskSetting } from '../../src/cli/config/print.js';
import { fileKey, settingEntries } from '../../src/config.js';
import { readConfig } from '../../src/read-config.js';
import { makeTempDir, runCli } from './support.js';

let dir: ReturnType<typeof makeTempDir>;
beforeAll(() => {
  dir = makeTempDir();
});
afterAll(() => dir.remove());

const fileOf = (name: string, content: string) => {
  const path = join(dir.path, name);
  writeFileSync(path, content);
  return path;
};

describe('a configuration file', () => {
  test('sets what neither an option nor the environment sets', () => {
    const config = fileOf('order.yaml', 'mqtt_port: 1\nlog_level: debug\nacl: open\n');
    const read = readCommandSettings({ config, mqttPort: '3' }, { MQTT_PORT: '2', LOG_LEVEL: 'error' });
    expect(read.config).toMatchObject({ mqttPort: 3, logLevel: 'error', acl: 'open', enableJetstream: true });
    expect(read.origins).toMatchObject({
      mqttPort: '--mqtt-port',
      logLevel: 'LOG_LEVEL',
      acl: `${config}:3 acl`,
      enableJetstream: 'default',
    });
  });

  test('is named by the option or by SVC_MQTT_CONFIG, of which the option wins', () => {
    const [one, two] = [fileOf('one.yaml', 'mqtt_port: 1'), fileOf('two.yaml', 'mqtt_port: 2')];
    expect(readCommandConfig({}, { SVC_MQTT_CONFIG: one }).mqttPort).toBe(1);
    expect(readCommandConfig({ config: two }, { SVC_MQTT_CONFIG: one }).mqttPort).toBe(2);
    expect(readCommandConfig({}, { SVC_MQTT_CONFIG: '' }).mqttPort).toBe(1883);
  });

  test('may be JSON, hold lists and nothing, and keeps text as it was written', () => {
    const json = fileOf('a.json', '{"mqtt_port": 7, "enable_jetstream": false, "nats_url": ["a:1", "b:2"]}');
    expect(readConfig({ env: {}, file: json })).toMatchObject({
      mqttPort: 7,
      enableJetstream: false,
      natsUrl: 'a:1,b:2',
    });
    const yaml = fileOf('a.yaml', 'api_token: 00012345678901234567890\nlisten_addr: :9092\nnats_user:\n');
    expect(readConfig({ env: {}, file: yaml })).toMatchObject({
      apiToken: '00012345678901234567890',
      listenAddr: ':9092',
      natsUser: undefined,
    });
    expect(readConfig({ env: {}, file: fileOf('empty.yaml', '# nothing\n') }).mqttPort).toBe(1883);
  });

  test('names the file of a secret', () => {
    const token = fileOf('token', 'a-token-of-some-length\n');
    const file = fileOf('secret.yaml', `api_token_file: ${token}\n`);
    expect(readConfig({ env: {}, file }).apiToken).toBe('a-token-of-some-length');
    const both = fileOf('both.yaml', `api_token_file: ${token}\napi_token: sekrit-sekrit-sekrit\n`);
    expect(() => readConfig({ env: {}, file: both })).toThrow(/both\.yaml:2 api_token: give api_token or/);
    expect(() => readConfig({ env: {}, file: both })).not.toThrow(/sekrit/);
  });

  test.each([
    [
      'foo: 1\nMQTT-PORT: 2\n',
      ['bad.yaml:1: there is no setting foo', ':2: there is no setting MQTT-PORT (is mqtt_port meant?)'],
    ],
    [
      'mqtt_port: x\nacl: {a: b}\n',
      [':1 mqtt_port cannot be "x": it must be a whole number from', ':2 acl must be one value'],
    ],
    ['api_token: short\n', [':1 api_token cannot be the given value']],
    ['- 1\n', ['must hold settings as "key: value"']],
    ['a: [\n', ['is not YAML']],
    ['mqtt_port: 1\nmqtt_port: 2\n', ['is not YAML: DUPLICATE_KEY at line 2, column 1']],
    ['acl: open\napi_token: "short" too\n', ['is not YAML: UNEXPECTED_TOKEN at line 2, column 20']],
    ['api_token: %short\n', ['is not YAML: BAD_SCALAR_START at line 1, column 12']],
    [`#${'x'.repeat(262_144)}`, ['is over 262144 bytes']],
  ])('with %j is refused with its line', (content, parts) => {
    const file = fileOf('bad.yaml', content);
    for (const part of parts) expect(() => readConfig({ env: {}, file })).toThrow(part);
    expect(() => readConfig({ env: {}, file })).not.toThrow(/short/);
  });

  test('that is missing is named', async () => {
    const { status, stderr } = await runCli(['config', 'print', '--config', join(dir.path, 'none.yaml')]);
    expect(status).toBe(2);
    expect(stderr).toMatch(/none\.yaml cannot be read \(ENOENT\)/);
  });
});

test('the example is a file with every setting at its default', () => {
  const example = renderConfigExample();
  expect(readConfig({ env: {}, file: fileOf('commented.yaml', example) })).toEqual(readConfig({ env: {} }));
  const file = fileOf('example.yaml', example.replace(/^#([a-z_]+:)/gm, '$1'));
  expect(readConfig({ env: {}, file })).toEqual(readConfig({ env: {} }));
  for (const [, entry] of settingEntries) expect(example).toContain(`\n#${fileKey(entry)}:`);
});

describe('config print', () => {
  test('shows values and where they came from, with secrets masked', async () => {
    const config = fileOf('print.yaml', 'mqtt_port: 1884\napi_token: sekrit-sekrit-sekrit\n');
    const env = { DATABASE_URL: 'postgres://u:sekrit@h/d', SVC_MQTT_CONFIG: config, LOG_LEVEL: 'info' };
    const [changed, json] = await Promise.all([
      runCli(['config', 'print', '--changed', '--acl', 'open', '--no-mqtt-tcp'], env),
      runCli(['config', 'print', '--json'], env),
    ]);
    expect(changed.stdout).toMatch(/^SETTING\tVALUE\tFROM\n/);
    expect(changed.stdout).toMatch(/^database_url\tpostgres:\/\/\*\*\*@h\/d\tDATABASE_URL$/m);
    expect(changed.stdout).toMatch(/^mqtt_port\t1884\t.*print\.yaml:1 mqtt_port$/m);
    expect(changed.stdout).toMatch(/^acl\topen\t--acl$/m);
    expect(changed.stdout).toMatch(/^mqtt_tcp\tfalse\t--no-mqtt-tcp$/m);
    expect(changed.stdout).not.toMatch(/log_level/);
    const rows = json.stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(rows).toHaveLength(settingEntries.length);
    expect(rows).toContainEqual({ key: 'log_level', value: 'info', origin: 'LOG_LEVEL', secret: false });
    expect(rows).toContainEqual({ key: 'nats_url', value: null, origin: 'default', secret: true });
    expect(changed.stdout + json.stdout + changed.stderr + json.stderr).not.toContain('sekrit');
  });

  test('says that nothing is changed when nothing is', async () => {
    for (const json of [[], ['--json']]) {
      expect(await runCli(['config', 'print', '--changed', ...json])).toMatchObject({
        status: 0,
        stdout: '',
        stderr: 'Every setting is at its default.\n',
      });
    }
  });

  test('shows no password, wherever in a URL or DSN it stands', () => {
    const secrets = settingEntries.map(([, entry]) => entry).filter(({ secret }) => secret === true);
    const forms = [
      (p: string) => `postgres://user:${encodeURIComponent(p)}@host/db`,
      (p: string) => `postgres://user@host/db?password=${encodeURIComponent(p)}`,
      (p: string) => `host=h user=u password=${p.replace(/[\s'\\]/g, '_')} dbname=d`,
      (p: string) => `host=h password='${p.replace(/['\\]/g, '_')}' dbname=d`,
      (p: string) => `host=h password=x ${p} dbname=d`,
      (p: string) => `host=h password=x ${p}`,
      (p: string) => `nats://a:4222,nats://u:${encodeURIComponent(p)}@b:4222`,
      (p: string) => `nats://${encodeURIComponent(p)}@b:4222`,
    ];
    fc.assert(
      fc.property(
        fc.constantFrom(...secrets),
        fc.constantFrom(...forms),
        fc.stringMatching(/^[A-Za-z0-9 @:/?&=%'\\]{6,30}$/),
        (entry, form, password) => {
          const shown = String(maskSetting(entry, form(`QQ${password}QQ`)));
          expect(shown).not.toContain('QQ');
        },
      ),
      { numRuns: 2_000 },
    );
  });
});
