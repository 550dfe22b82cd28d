import { describe, expect, test } from 'vitest';
import { runCli } from './support.js';

describe('help and version', () => {
  test('go to stdout, with nothing on stderr and exit status 0', async () => {
    for (const args of [
      ['--help'],
      ['-h'],
      ['help'],
      [],
      ['device'],
      ['device', '--help'],
      ['help', 'device'],
    ]) {
      const { status, stdout, stderr } = await runCli(args);
      expect({ args, status, stderr }).toEqual({ args, status: 0, stderr: '' });
      expect(stdout).toMatch(/^Usage: svc-mqtt /);
    }
    const version = await runCli(['--version']);
    expect(version).toMatchObject({ status: 0, stderr: '' });
    expect(version.stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
    for (const short of ['-v', '-V']) expect(await runCli([short])).toMatchObject(version);
  });

  test('show the settings that the command uses, and no option that takes a secret', async () => {
    const [serve, add, tail, help] = await Promise.all([
      runCli(['serve', '--help']),
      runCli(['device', 'add', '--help']),
      runCli(['tail-nats', '--help']),
      runCli(['help', 'tail-nats']),
    ]);
    expect(serve.stdout).toMatch(/--mqtt-port <n>[\s\S]*MQTT_PORT; default\s+1883/);
    expect(serve.stdout).toContain('--api-token-file <path>');
    expect(serve.stdout).not.toMatch(/--api-token </);
    expect(add.stdout).toContain('--database-url <url>');
    expect(add.stdout).not.toMatch(/--mqtt-port|--nats-url|--no-migrate/);
    expect(tail.stdout).toContain('--nats-url <url>');
    expect(tail.stdout).not.toMatch(/--mqtt-port|--tls-cert |--listen-addr/);
    expect(help.stdout).toBe(tail.stdout);
  });
});

describe('a wrong command line is one line on stderr and exit status 2:', () => {
  test.each([
    [['srve'], "unknown command 'srve' (Did you mean serve?)"],
    [['device', 'lst'], "unknown command 'lst' (Did you mean one of list, ls?)"],
    [['help', 'srve'], "unknown command 'srve'"],
    [['device', 'lst', '--help'], "unknown command 'lst'"],
    [['--bogus'], "unknown option '--bogus'"],
    [
      ['--config', 'f', 'serve'],
      '--config stands before the command. Put it after the command: svc-mqtt serve --config …',
    ],
    [
      ['--data-dir=/x', 'device', 'list'],
      '--data-dir stands before the command. Put it after the command: svc-mqtt device list --data-dir …',
    ],
    [['device', '--json', 'list'], '--json stands before the command'],
    [['device', '--json', 'ls'], '--json stands before the command'],
    [['device', 'add', '--tpye', 'x'], "unknown option '--tpye' (Did you mean --type?)"],
    [['device', 'add', '--type'], "option '--type <type>' argument missing"],
    [
      ['device', 'add', '--type', 'sensor', '--id', '--json'],
      '--id cannot be "--json": its value is missing. A value that begins with a hyphen is given as --id=VALUE',
    ],
    [['device', 'add', '--type', 'x', '--id=--json'], 'id must not begin with a hyphen'],
    [['device', 'add', '--output', '--type', 'x'], '--output cannot be "--type": its value is missing'],
    [
      ['device', 'list', '--database-url', '--json'],
      '--database-url cannot be "--json": its value is missing',
    ],
    [['device', 'add'], 'device add needs --type <type>'],
    [
      ['device', 'add', '--type', 'x', '--count', 'many'],
      '--count cannot be "many": it must be a whole number',
    ],
    [['device', 'add', '--type', 'x', '--count', '0'], '--count cannot be "0"'],
    [['device', 'add', '--type', 'x', '--id', 'a', '--count', '2'], "option '--id <id>' cannot be used with"],
    [['device', 'list', 'extra', 'more'], "unexpected arguments 'extra' 'more'"],
    [['device', 'list', '--all', '--revoked'], "option '--revoked' cannot be used with option '--all'"],
    [['device', 'show'], "missing required argument 'id'"],
    [['device', 'revoke'], "missing required argument 'id'"],
    [['migrate', '--status', '--dry-run'], "option '--status' cannot be used with option '--dry-run'"],
    [['tail-nats', 'a..b'], 'The subject "a..b" must not have an empty token'],
    [['tail-nats', 'raw.>', '--device', 'd'], '--device and a subject cannot be used together'],
    [['tail-nats', '--since', 'yesterday'], '--since cannot be "yesterday": it must be a duration'],
    [
      ['claim', 'create', '--type', 'x', '--expires', '1w'],
      '--expires cannot be "1w": it must be a duration, one whole number with the unit s, m, h or d, such as 90s',
    ],
    [
      ['device', 'add', '--type', 'x', '--expires', '1d12h'],
      '--expires cannot be "1d12h": it must be a duration (one whole number with the unit s, m, h or d, such as 90s',
    ],
    [
      ['serve', '--mqtt-port', '99999'],
      '--mqtt-port cannot be "99999": it must be a whole number from 0 to 65535',
    ],
  ])('%j', async (args, message) => {
    const { status, stdout, stderr } = await runCli(args);
    expect({ status, stdout }).toEqual({ status: 2, stdout: '' });
    expect(stderr.startsWith(`svc-mqtt: ${message}`), stderr).toBe(true);
    expect(stderr.trimEnd().split('\n')).toHaveLength(1);
  });

  test('bad settings of the environment and of options, all at once', async () => {
    const { status, stderr } = await runCli(['serve', '--acl', 'none'], {
      MQTT_PORT: 'x',
      LOG_LEVEL: 'loud',
    });
    expect(status).toBe(2);
    expect(stderr).toMatch(
      /^svc-mqtt: .*MQTT_PORT cannot be "x".*--acl cannot be "none".*LOG_LEVEL cannot be "loud".*\n$/,
    );
  });

  test('a secret as an argument is neither taken nor repeated', async () => {
    const { status, stderr } = await runCli(['serve', '--api-token=sekrit-sekrit-sekrit']);
    expect(status).toBe(2);
    expect(stderr).toContain('use --api-token-file or the environment');
    expect(stderr).not.toContain('sekrit');
    const url = await runCli(['device', 'list', '--database-url', 'postgres://u:sekrit@h/d']);
    expect(url.status).toBe(2);
    expect(url.stderr).toContain('--database-url-file');
    expect(url.stderr).not.toContain('sekrit');
  });
});

describe('a failure is one line and exit status 1:', () => {
  test('no database', async () => {
    const { status, stdout, stderr } = await runCli(['device', 'list'], {
      DATABASE_URL: 'postgres://user:sekrit@127.0.0.1:1/gateway',
    });
    expect({ status, stdout }).toEqual({ status: 1, stdout: '' });
    expect(stderr).toMatch(/^svc-mqtt: .*127\.0\.0\.1:1.*\n$/);
    expect(stderr).not.toMatch(/sekrit|\n\s+at /);
  });

  test('no NATS; its stack only when asked for', async () => {
    const env = { NATS_URL: 'nats://user:sekrit@127.0.0.1:1' };
    const { status, stdout, stderr } = await runCli(['tail-nats'], env);
    expect({ status, stdout }).toEqual({ status: 1, stdout: '' });
    expect(stderr).toMatch(/^svc-mqtt: .*127\.0\.0\.1:1.*\n$/);
    expect(stderr).not.toContain('sekrit');
    const debug = await runCli(['tail-nats'], { ...env, LOG_LEVEL: 'debug' });
    expect(debug.stderr).toMatch(/\n\s+at /);
    expect(debug.stderr).not.toContain('sekrit');
  });
});
