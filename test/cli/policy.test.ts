import { connect } from 'nats';
import { describe, expect, onTestFinished, test } from 'vitest';
import { runProgram } from '../../src/cli/program.js';
import type { SvcMqttError } from '../../src/errors.js';
import { kinds } from '../db/databases.js';
import { startNatsServer } from '../support/nats-server.js';
import { undoAfterAll } from '../support/undo-after-all.js';
import { useDatabase } from './database.js';
import { fakeIo, jsonLines, makeTempDir } from './support.js';

async function run(env: Record<string, string>, ...args: string[]) {
  const io = fakeIo({ env });
  const outcome = await runProgram(args, io).catch((error: SvcMqttError) => error);
  return { outcome, out: io.out(), err: io.err(), lines: () => jsonLines(io.out()) };
}

describe.each(kinds)('policies on %s', (kind) => {
  const later = undoAfterAll();
  const dir = makeTempDir();
  later(() => dir.remove());
  const database = useDatabase(kind);
  const env = () => ({ DATA_DIR: dir.path, EMBEDDED_NATS_PORT: '0', ...database.env });

  test('are set, listed, shown and removed', async () => {
    expect(await run(env(), 'policy', 'list')).toMatchObject({
      outcome: 0,
      out: '',
      err: 'No policies: every device has the default.\n',
    });
    const set = await run(
      env(),
      ...[
        'policy',
        'set',
        'sensor',
        '--publish',
        'raw/{id}/#',
        '--publish',
        'up/{type}/{id}',
        '--no-subscribe',
      ],
      ...[
        '--publish-rate',
        '10',
        '--max-packet-bytes',
        '4096',
        '--nats-subject',
        'raw.{type}.{id}',
        '--json',
      ],
    );
    expect(set).toMatchObject({ outcome: 0, err: 'No device has the type sensor yet.\n' });
    const [policy] = set.lines();
    expect(policy).toMatchObject({
      type: 'sensor',
      publish: ['raw/{id}/#', 'up/{type}/{id}'],
      subscribe: [],
      publish_rate: 10,
      max_packet_bytes: 4096,
      nats_subject: 'raw.{type}.{id}',
      warnings: [
        expect.stringMatching(
          /raw\.\*\.\* was not checked: No embedded NATS server runs for the data directory/,
        ),
      ],
    });
    const { warnings: _, ...kept } = policy as Record<string, unknown>;
    expect((await run(env(), 'policy', 'list', '--json')).lines()).toEqual([kept]);
    expect((await run(env(), 'policy', 'show', 'sensor', '--json')).lines()).toEqual([kept]);
    const shown = await run(env(), 'policy', 'show', 'sensor');
    expect(shown.out).toMatch(
      /^publish {7}raw\/\{id\}\/#\n {14}up\/\{type\}\/\{id\}\nsubscribe {5}nothing$/m,
    );
    expect((await run(env(), 'policy', 'list')).out).toContain('10/s');
    expect((await run(env(), 'policy', 'remove', 'sensor', '--yes', '--json')).lines()).toEqual([
      { type: 'sensor', outcome: 'removed' },
    ]);
    expect((await run(env(), 'policy', 'rm', 'sensor', '-y')).outcome).toMatchObject({
      code: 'POLICY_NOT_FOUND',
    });
  });

  test('are shown as the default where a type has none', async () => {
    const json = await run(env(), 'policy', 'show', 'plain', '--json');
    expect(json).toMatchObject({ outcome: 0, err: '' });
    expect(json.lines()).toEqual([
      {
        type: 'plain',
        publish: ['raw.{id}', 'raw/{id}', 'raw/{id}/#'],
        subscribe: ['cmd/{id}/#'],
        publish_rate: null,
        max_packet_bytes: null,
        nats_subject: null,
        ack_level: null,
        on_refusal: null,
        receipts: null,
        created_at: null,
        updated_at: null,
        default: true,
      },
    ]);
    const shown = await run(env(), 'policy', 'show', 'plain');
    expect(shown.outcome).toBe(0);
    expect(shown.out).toMatch(/^policy {8}none of its own; the default holds\npublish {7}raw\.\{id\}$/m);
    expect((await run(env(), 'policy', 'show', '')).outcome).toMatchObject({ code: 'INPUT_INVALID' });
  });

  test('keep what no option names, and say what is different', async () => {
    await run(env(), 'policy', 'set', 'meter', '--no-publish', '--no-subscribe');
    const rate = await run(env(), 'policy', 'set', 'meter', '--publish-rate', '5');
    expect(rate.outcome).toBe(0);
    expect(rate.out).toMatch(/^publish {7}nothing\nsubscribe {5}nothing\npublish rate {2}5 messages\/s$/m);
    expect(rate.err).toBe(
      "Changed publish rate: as the server's setting → 5 messages/s\nNo device has the type meter yet.\n",
    );
    await run(env(), 'device', 'add', '--type', 'meter');
    expect((await run(env(), 'policy', 'set', 'meter', '--publish-rate', '5')).err).toBe(
      'Nothing changed.\n',
    );
    const reset = await run(
      env(),
      ...['policy', 'set', 'meter', '--default', 'publish', '--default', 'publish-rate', '--json'],
    );
    expect(reset).toMatchObject({ outcome: 0, err: '' });
    expect(reset.lines()).toMatchObject([
      { publish: ['raw.{id}', 'raw/{id}', 'raw/{id}/#'], subscribe: [], publish_rate: null },
    ]);
    const read = await run(
      env(),
      'policy',
      'set',
      'meter',
      '--subscribe',
      'cmd/{id}/a',
      '--publish',
      'up/{id}',
    );
    expect(read.err).toBe(
      'Changed publish: raw.{id} raw/{id} raw/{id}/# → up/{id}\nChanged subscribe: nothing → cmd/{id}/a\n',
    );
    const audited = (await run(env(), 'audit', '--json')).lines();
    const ofMeter = audited.filter(({ action, target }) => action === 'policy.set' && target === 'meter');
    // What changed nothing is not there.
    expect(ofMeter.map(({ details }) => details)).toMatchObject([
      { publish: [], subscribe: [], publish_rate: null },
      { publish: [], subscribe: [], publish_rate: 5 },
      { subscribe: [], publish_rate: null },
      { publish: ['up/{id}'], subscribe: ['cmd/{id}/a'] },
    ]);
    expect((await run(env(), 'audit')).out).toContain(' publish_rate=default ');
    await run(env(), 'policy', 'remove', 'meter', '--yes');
  });

  test.each([
    [[], 'policy set needs something to change'],
    [['--json'], 'policy set needs something to change'],
    [['--no-publish', '--publish', 'up/{id}'], '--publish and --no-publish contradict'],
    [['--subscribe', 'cmd/{id}', '--no-subscribe'], '--subscribe and --no-subscribe contradict'],
    [['--publish', 'up/{id}', '--default', 'publish'], '--default publish and --publish contradict'],
    [['--default', 'subscribe', '--no-subscribe'], '--default subscribe and --no-subscribe contradict'],
    [
      ['--default', 'publish-rate', '--publish-rate', '5'],
      '--default publish-rate and --publish-rate contradict',
    ],
    [['--default', 'publishRate'], '--default cannot be "publishRate": it must be one of publish, subscribe'],
  ])('are not set with %j', async (options, message) => {
    const { outcome } = await run(env(), 'policy', 'set', 'meter', ...options);
    expect(outcome).toMatchObject({ code: 'USAGE', message: expect.stringContaining(message) });
    expect((await run(env(), 'policy', 'list')).out).toBe('');
  });

  test('take a level of acknowledgement, and warn where it does not hold', async () => {
    const server = await startNatsServer();
    onTestFinished(() => server.stop());
    const connection = await connect({ servers: server.url });
    const manager = await connection.jetstreamManager();
    await manager.streams.add({ name: 'RAW', subjects: ['raw.>'] });
    await connection.close();
    const withNats = { ...env(), NATS_URL: server.url };
    const set = (...options: string[]) => run(withNats, 'policy', 'set', 'strict', ...options, '--json');
    expect((await set('--ack-level', 'replicated')).lines()).toMatchObject([
      { ack_level: 'replicated', warnings: [expect.stringContaining('stream RAW is kept on 1 server')] },
    ]);
    expect((await run(env(), 'policy', 'show', 'strict')).out).toMatch(/^ack level +replicated$/m);
    expect((await set('--default', 'ack-level')).lines()).toMatchObject([
      { ack_level: null, on_refusal: null, receipts: null, warnings: [] },
    ]);
    expect((await set('--ack-level', 'written')).outcome).toMatchObject({ code: 'USAGE' });
    await server.halt();
    expect((await set('--ack-level', 'synced')).lines()[0]?.warnings).toEqual([
      expect.stringMatching(
        /^ack_level: whether the stream of raw\.\* keeps messages as synced says was not checked: /,
      ),
    ]);
  });

  test('whose subject no stream covers are set with a warning', async () => {
    const server = await startNatsServer();
    onTestFinished(() => server.stop());
    const withNats = { ...env(), NATS_URL: server.url };
    const set = () => run(withNats, 'policy', 'set', 'lost', '--nats-subject', 'elsewhere.{id}', '--json');
    const warned = async () => (await set()).lines()[0]?.warnings;
    expect(await warned()).toEqual([expect.stringContaining('no stream covers elsewhere.*, so messages')]);
    expect((await run(withNats, 'policy', 'set', 'lost', '--publish-rate', '7')).err).toContain(
      'Warning: nats_subject: no stream covers elsewhere.*',
    );
    const connection = await connect({ servers: server.url });
    const manager = await connection.jetstreamManager();
    await manager.streams.add({ name: 'ELSEWHERE', subjects: ['elsewhere.>'] });
    await connection.close();
    expect(await warned()).toEqual([]);
    await server.pause();
    expect(await warned()).toEqual([
      'nats_subject: whether a stream covers elsewhere.* was not checked: NATS did not answer within 2 s',
    ]);
    server.resume();
    await server.halt();
    expect(await warned()).toEqual([expect.stringMatching(/not checked: NATS at .* refuses connections/)]);
    await run(env(), 'policy', 'remove', 'lost', '--yes');
  });

  test('say what they allow, and what is left out is the default', async () => {
    const set = await run(
      env(),
      'policy',
      'set',
      'hub',
      '--subscribe',
      'raw/#',
      '--max-packet-bytes',
      '2000000',
    );
    expect(set.outcome).toBe(0);
    expect(set.err).toContain('Warning: subscribe "raw/#" has no {id}');
    expect(set.err).toContain('Warning: max_packet_bytes is over MAX_PACKET_BYTES (1048576)');
    expect(set.out).toContain('raw.{id}');
    await run(env(), 'policy', 'remove', 'hub', '--yes');
  });

  test('with faults are refused, all named at once', async () => {
    const set = await run(
      env(),
      ...[
        'policy',
        'set',
        'sensor',
        '--publish',
        'a/#/b',
        '--publish',
        '$SYS/{id}',
        '--subscribe',
        '{id}{type}',
      ],
      ...['--nats-subject', '>'],
    );
    expect(set.outcome).toMatchObject({
      code: 'INPUT_INVALID',
      message: expect.stringMatching(
        /publish "a\/#\/b" has a misplaced.*"\$SYS.*subscribe.*two placeholders.*nats_subject/,
      ),
    });
    expect((await run(env(), 'policy', 'set', 'sensor', '--publish-rate', '0')).outcome).toMatchObject({
      code: 'USAGE',
    });
    expect((await run(env(), 'policy', 'set')).outcome).toMatchObject({ code: 'USAGE' });
  });
});
