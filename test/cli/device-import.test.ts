import { execFileSync } from 'node:child_process';
import {
  createWriteStream,
  existsSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { beforeEach, describe, expect, test } from 'vitest';
import { formatCsv, protectFormula, readCsv, unprotectFormula } from '../../src/cli/device/csv.js';
import { checkGivenSecret } from '../../src/cli/device/import-row.js';
import { runProgram } from '../../src/cli/program.js';
import { loadCredentials, matchSecret } from '../../src/db/devices/device-credentials.js';
import { hashSecret } from '../../src/db/secrets.js';
import type { SvcMqttError } from '../../src/errors.js';
import { kinds } from '../db/databases.js';
import { undoAfterAll } from '../support/undo-after-all.js';
import { useDatabase } from './database.js';
import { fakeIo, jsonLines, makeTempDir, runCli } from './support.js';

const secret = 'q8Zr1xW0vT7yLk3mNs5uBd'; // 22 characters of base64

async function* pieces(text: string, size: number) {
  const characters = [...text];
  for (let at = 0; at < characters.length; at += size) yield characters.slice(at, at + size).join('');
}

async function readAll(text: string, size = 1_000) {
  const records = [];
  for await (const record of readCsv(pieces(text, size))) records.push(record);
  return records;
}

describe('CSV', () => {
  test('comes back as it was, and no cell is a formula', async () => {
    const cell = fc.oneof(
      fc.string({ unit: 'grapheme' }),
      fc.stringMatching(/^'{0,3}[=+@-]?[a-z",\n]{0,4}$/),
    );
    const rows = fc.array(fc.array(cell, { minLength: 2, maxLength: 4 }), { minLength: 1, maxLength: 5 });
    await fc.assert(
      fc.asyncProperty(rows, fc.integer({ min: 1, max: 20 }), async (records, size) => {
        const text = formatCsv(records).replaceAll('\r\n', '\n');
        expect((await readAll(text, size)).map(({ cells }) => cells)).toEqual(
          records.map((cells) => cells.map((each) => each.replaceAll('\r\n', '\n'))),
        );
        for (const each of records.flat()) {
          expect(protectFormula(each)).not.toMatch(/^[=+\-@\t\r]/);
          expect(unprotectFormula(protectFormula(each))).toBe(each);
        }
      }),
    );
  });

  test.each([1, 3, 1_000])('knows the lines of its records, in pieces of %i', async (size) => {
    const text = 'a,b\r\n\r\n"x\r\ny",c\r\n"",""\r\nd,e';
    expect((await readAll(text, size)).map(({ line }) => line)).toEqual([1, 3, 5, 6]);
  });
});

test.each([
  ['0123456789abcdef0123456789abcdef', true],
  ['56lrl6klpcojdvvdealxjsy53xfsbg3v', true],
  [secret, true],
  [`${secret}==`, true],
  ['0123456789abcdef0123456789abcde', false],
  ['123456789012345678901234567890', false],
  ['aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', false],
  ['correct horse battery staple', false],
  ['correcthorsebattery', false],
  ['S3cret!', false],
  ['x'.repeat(300), false],
])('of secrets in clear, %j is taken: %j', (text, taken) => {
  expect(checkGivenSecret(text) === undefined).toBe(taken);
});

describe.each(kinds)('on %s', (kind) => {
  const later = undoAfterAll();
  const dir = makeTempDir();
  later(() => dir.remove());
  const database = useDatabase(kind);
  beforeEach(async () => {
    await database.db.pool.query('truncate devices, audit_log');
  });

  let files = 0;
  const newFile = (extension: string) => join(dir.path, `${files++}.${extension}`);
  const run = async (args: readonly string[], stdin?: string) => {
    const io = fakeIo({ env: database.env, ...(stdin !== undefined && { stdin }) });
    const outcome = await runProgram(['device', ...args], io).catch((error: SvcMqttError) => error);
    return { outcome, out: io.out(), err: io.err() };
  };
  const all = async () => (await database.db.pool.query('select * from devices order by id')).rows;
  const secretOf = async (id: string, password: string) => {
    const [credentials] = await loadCredentials(database.db, [id]);
    return credentials && matchSecret(credentials, Buffer.from(password));
  };

  test('CSV with chosen ids and secrets of another gateway', async () => {
    const csv = `\ufeffid,type,secret,metadata.site,metadata,expires_at\r\nd1,sensor,${secret},lyon,"{""a"":""b""}",2099-01-31T12:00:00Z\r\n=d2@x,'=meter,${secret},,,\r\n`;
    expect(await run(['import', '-'], csv)).toMatchObject({ outcome: 0, out: 'imported 2 devices\n' });
    expect(await all()).toMatchObject([
      { id: '=d2@x', type: '=meter', metadata: {}, expires_at: null },
      {
        id: 'd1',
        type: 'sensor',
        metadata: { site: 'lyon', a: 'b' },
        expires_at: new Date('2099-01-31T12:00:00Z'),
      },
    ]);
    expect(await secretOf('d1', secret)).toBe('current');
    const { rows } = await database.db.pool.query(
      'select action, target, actor_kind from audit_log order by target',
    );
    expect(rows).toMatchObject([
      { action: 'device.import', actor_kind: 'cli' },
      { action: 'device.import', target: 'd1' },
    ]);
    expect(JSON.stringify(await all())).not.toContain(secret);
  });

  const rows = [
    { id: 'AA:BB:CC:00:11:22', type: 'sensor', secret, 'metadata.Rack': 'a, b; c|d' },
    { id: 'd2', type: 'pump', secret, 'metadata.Rack': '' },
  ];
  const toCsv = (delimiter: string, header = ['id', 'type', 'secret', 'metadata.Rack'], end = '\r\n') =>
    [header, ...rows.map((row) => Object.values(row).map((cell) => `"${cell}"`))]
      .map((cells) => cells.join(delimiter) + end)
      .join('');
  const objects = rows.map(({ 'metadata.Rack': rack, ...row }) => ({
    ...row,
    metadata: rack === '' ? {} : { Rack: `${rack} {"[\\` },
  }));

  test.each([
    ['semicolons', toCsv(';')],
    ['tabs, and a byte order mark', `\ufeff${toCsv('\t')}`],
    ['a header as people write it', toCsv(',', ['ID', ' Type', 'SECRET ', 'Metadata.Rack'])],
    ['a header in quotes', toCsv(';', ['"Id"', '"Type"', '"Secret"', '"metadata.Rack"'])],
    ['the delimiter named first', `sep=|\r\n${toCsv('|')}`],
    ['the delimiter named with a byte order mark', `\ufeffsep=;\n${toCsv(';', undefined, '\n')}`],
    ['an array of JSON', JSON.stringify(objects)],
    ['an array of JSON over several lines', `\ufeff\n${JSON.stringify(objects, null, 2)}\n`],
    ['JSON objects over several lines', objects.map((row) => JSON.stringify(row, null, 2)).join('\n')],
    [
      'JSON lines with other names',
      objects.map(({ id, ...row }) => JSON.stringify({ ID: id, ...row })).join('\n'),
    ],
  ])('%s', async (_name, text) => {
    expect(await run(['import', '-'], text)).toMatchObject({ outcome: 0, out: 'imported 2 devices\n' });
    expect(await all()).toMatchObject([
      { id: 'AA:BB:CC:00:11:22', metadata: { Rack: expect.stringContaining('a, b; c|d') } },
      { id: 'd2', type: 'pump', metadata: {} },
    ]);
    expect(await secretOf('AA:BB:CC:00:11:22', secret)).toBe('current');
  });

  test.each([
    ['[{"id":"a","type":"t"}, 7]', /^Line 1: something other than JSON objects is in the array$/],
    ['[{"id":"a","type":"t"}', /^The JSON that begins on line 1 does not end$/],
    ['[\n{"id":"a","type":"t"\n', /^The JSON that begins on line 2 does not end$/],
    [
      `[\n{"id":"a","type":"t","secret":"${secret}"},\n{"id":"a.b","type":"t"}]`,
      /line 3, field id: must not contain a dot/,
    ],
    [`[{"id":"a","ID":"b","type":"t"}]`, /line 1, column 1: a field is there twice/],
    [
      `id;type;secret\n10.0.0.7;t;${secret}\n`,
      /line 2, column 1 \(id\): must not contain a dot, which ends a token/,
    ],
  ])('of %j it says what is wrong', async (text, problem) => {
    const { outcome } = await run(['import', '-'], text);
    expect(outcome).toMatchObject({ code: 'INPUT_INVALID' });
    expect((outcome as SvcMqttError).message.replace('Nothing was imported: ', '')).toMatch(problem);
    expect(await all()).toEqual([]);
  });

  test('JSON lines, with what is missing generated into a file of mode 0600', async () => {
    const output = newFile('csv');
    const lines = [
      { type: 'a' },
      { type: 'b', id: 'own' },
      { type: 'c', id: 'has', secret, metadata: { k: 'v' } },
    ];
    const text = `${lines.map((line) => JSON.stringify(line)).join('\n\n')}\n`;
    const imported = await run(['import', '-', '--output', output], text);
    expect(imported).toMatchObject({ outcome: 0, out: 'imported 3 devices\n' });
    expect(imported.err).toContain('the only copy of 2 secrets');
    expect(statSync(output).mode & 0o777).toBe(0o600);
    const [header, ...records] = await readAll(readFileSync(output, 'utf8'));
    expect(header?.cells).toEqual(['id', 'type', 'mqtt_user', 'mqtt_password', 'created_at']);
    expect(records.map(({ cells }) => cells[1])).toEqual(['a', 'b']);
    for (const { cells } of records) expect(await secretOf(cells[0] ?? '', cells[3] ?? '')).toBe('current');
    const again = await run(['import', '-', '--output', output], '{"type":"a"}');
    expect(again.outcome).toMatchObject({
      code: 'INPUT_INVALID',
      message: expect.stringContaining('is there already'),
    });
    expect((await run(['import', '-', '--output', output, '--force'], '{"type":"a"}')).outcome).toBe(0);
    expect((await readAll(readFileSync(output, 'utf8'))).length).toBe(2);
    expect(readdirSync(dir.path).filter((name) => name.endsWith('.part'))).toEqual([]);
  });

  const bad = `id,type,secret,metadata.site
good,a,${secret},x
,a,${secret},x

g2,,${secret},x
g/3,a,${secret},x
g4,a,short,x
"g5","a
b",${secret},x
g6,a
good,a,${secret},x
g7,a,${secret},"${'x'.repeat(300)}"
g8,a,,x
`;
  const problems = [
    [3, 'column 1 (id)', 'is missing; with --output <file> it is generated and written there'],
    [5, 'column 2 (type)', 'must not be empty'],
    [
      6,
      'column 1 (id)',
      'must not contain /, which has a meaning in MQTT topics or NATS subjects; write - or _ for it',
    ],
    [7, 'column 3 (secret)', expect.stringContaining('must be generated')],
    [8, 'column 2 (type)', 'must not contain control characters'],
    [10, 'column 3', 'the row has 2 cells and the header 4'],
    [11, 'id', 'exists already, in the database or on a line before'],
    [12, 'column 4 (metadata.site)', 'must not be longer than 256 characters'],
    [13, 'column 3 (secret)', expect.stringContaining('is missing')],
  ] as const;

  test('bad rows are named by line and column, and nothing is imported', async () => {
    const output = newFile('csv');
    const { outcome, out } = await run(['import', '-'], bad);
    expect(out).toBe('');
    const { code, message } = outcome as SvcMqttError;
    expect(code).toBe('INPUT_INVALID');
    expect(message).toMatch(/^Nothing was imported: line 3, column 1 \(id\): is missing/);
    expect(message).toContain('line 5, column 2 (type): must not be empty');
    expect(message).not.toContain(secret);
    expect(await all()).toEqual([]);
    await run(['import', '-', '--output', output], `{"type":"a"}\n{"type":5}`);
    expect(readdirSync(dir.path).join()).not.toContain(output.split('/').at(-1));
    expect(await all()).toEqual([]);
  });

  test('a cause that many rows share is told once', async () => {
    const row = (id: string, secretHash = {}) =>
      `${JSON.stringify({ id, type: 'a', secret, ...secretHash })}\n`;
    const hashed = Array.from({ length: 1_200 }, (_, at) => row(`h${at}`, { secret_hash: '00' }));
    const { outcome } = await run(['import', '-'], row('good') + hashed.join('') + row('a/b'));
    expect((outcome as SvcMqttError).message).toBe(
      'Nothing was imported: lines 2, 3, 4 and 1,197 more, field secret_hash: is taken only with --hashed; ' +
        'line 1202, field id: must not contain /, which has a meaning in MQTT topics or NATS subjects; write - or _ for it',
    );
    const few = await run(['import', '-'], row('good') + hashed.slice(0, 2).join(''));
    expect((few.outcome as SvcMqttError).message).toContain(': lines 2, 3, field secret_hash: is taken');
    const various = Array.from({ length: 12 }, (_, at) => row(`v${at}`, { [`f${at}`]: '' })).join('');
    expect(((await run(['import', '-'], various)).outcome as SvcMqttError).message).toMatch(
      /line 10, field f9: .*; and 2 further rows$/,
    );
  });

  test('with --continue the good rows are imported and the others reported', async () => {
    const report = newFile('csv');
    const { outcome, out } = await run(['import', '-', '--continue', '--report', report], bad);
    expect(outcome).toBe(1);
    expect(out).toContain('imported 1 device\n');
    expect((await all()).map(({ id }) => id)).toEqual(['good']);
    expect(statSync(report).mode & 0o777).toBe(0o600);
    const text = readFileSync(report, 'utf8');
    expect(text).not.toContain(secret);
    const [header, ...records] = await readAll(text);
    expect(header?.cells).toEqual(['line', 'column', 'id', 'problem']);
    const found = records.map(({ cells: [line, column, , problem] }) => [Number(line), column, problem]);
    expect(found.sort((one, other) => Number(one[0]) - Number(other[0]))).toEqual(problems);
    const twice = await run(['import', '-', '--continue', '--report', report, '--force', '--json'], bad);
    expect(jsonLines(twice.out)).toEqual([{ imported: 0, refused: 10, generated: 0 }]);
  });

  test.each([
    ['', /the input is empty/],
    [
      `d1,sensor,${secret}\n`,
      /^Line 1 names no column; a header such as id,type,secret must come first, parted by commas, semicolons or tabs$/,
    ],
    ['id,type,colour\n', /^Line 1: column 3 \(colour\) is not a known column; known are id, type/],
    ['id,type,id\n', /^Line 1: column 3 \(id\) is there twice/],
    ['id,type,secret_hash\n', /column 3 \(secret_hash\) is taken only with --hashed/],
    ['id,type,metadata.a b\n', /column 3 \(metadata.a b\) has a key/],
    ['id,type\na,"b"c\n', /^Line 2: a quote stands where none may/],
    ['id,type\na\n', /line 2, column 2: the row has 1 cell and the header 2/],
    [`id,type\na,b\nc,"${'x\n'.repeat(50_000)}`, /^Line \d+: the record does not end/],
    [`{"type":"${'x'.repeat(100_000)}"}`, /Line 1 is longer/],
    ['{"type":"a"\n', /line 1, column 1: what begins there is not valid JSON/],
    ['{"type":"a","typ":1}', /line 1, field typ: is not a known column/],
    ['{"type":1}', /line 1, field type: must be a string/],
    [
      `{"type":"a","secret":"${secret}","mqtt_password":"${secret}"}`,
      /field mqtt_password: must be empty where there is a secret column/,
    ],
    ['{"type":"a","mqtt_password":"short"}', /field mqtt_password: must be generated/],
    ['{"type":"a","metadata":{"b":1}}', /field metadata: must have strings/],
    ['{"type":"a","expires_at":"2099-01-01"}', /field expires_at: must be a time/],
  ])('%j is refused', async (text, message) => {
    const { outcome } = await run(['import', '-', '--output', newFile('csv')], text);
    expect(outcome).toMatchObject({ code: 'INPUT_INVALID', message: expect.stringMatching(message) });
    expect(await all()).toEqual([]);
  });

  test.skipIf(kind === 'embedded').each([
    {
      failing: `raise exception 'no' using errcode = '42501'`,
      code: 'DATABASE_REFUSED',
      told: 'Imported 2,000 devices (their secrets are in FILE), and then: ',
      kept: 2_000,
    },
    {
      failing: 'perform pg_terminate_backend(pg_backend_pid())',
      code: 'DATABASE_UNREACHABLE',
      told: 'Imported 2,000 devices; whether those from line 2002 on were imported too is not known (their secrets are in FILE, with an empty created_at): ',
      kept: 4_000,
    },
  ])('with --continue a batch counts once it is committed: $code', async ({ failing, code, told, kept }) => {
    await database.db.pool.query(`create function fail() returns trigger language plpgsql as
      $$ begin ${failing}; return null; end $$`);
    await database.db.pool.query(`create constraint trigger fails after insert on devices
      deferrable initially deferred for each row when (new.id = 'd2500') execute function fail()`);
    const [report, output] = [newFile('csv'), newFile('csv')];
    const csv = `id,type\n${Array.from({ length: 5_000 }, (_, at) => `d${at},a\n`).join('')}`;
    const { outcome } = await run(
      ['import', '-', '--continue', '--report', report, '--output', output],
      csv,
    ).finally(() => database.db.pool.query('drop function fail cascade'));
    expect(outcome).toMatchObject({
      code,
      message: expect.stringContaining(told.replace('FILE', output)),
    });
    expect(await all()).toHaveLength(2_000);
    const cells = readFileSync(output, 'utf8').trim().split('\n').slice(1);
    expect(cells).toHaveLength(kept);
    expect(cells.filter((line) => !line.endsWith(','))).toHaveLength(2_000);
  });

  test('bytes that are no UTF-8, and a file that is not there, are refused', async () => {
    const file = newFile('csv');
    writeFileSync(file, Buffer.from([0x69, 0x64, 0xff, 0x0a]));
    expect((await run(['import', file])).outcome).toMatchObject({ message: 'The input is not valid UTF-8' });
    expect((await run(['import', `${file}x`])).outcome).toMatchObject({ code: 'INPUT_INVALID' });
    expect((await run(['import', dir.path])).outcome).toMatchObject({ code: 'INPUT_INVALID' });
    expect((await run(['import', file, '--continue'])).outcome).toMatchObject({ code: 'USAGE' });
  });

  test.each(['csv', 'jsonl'])(
    'what is exported with hashes is restored by its import: %s',
    async (format) => {
      await run([
        'add',
        '--type',
        '=cmd|x',
        '--id',
        'one',
        '--metadata',
        'a=@b',
        '--expires',
        '2099-01-01',
        '--json',
      ]);
      await run(['add', '--type', 'b', '--id', 'two', '--json']);
      await run(['rotate', 'two', '--grace', '7d', '--until-used']);
      await run(['revoke', 'two', '--yes']);
      // Databases have ids that are not given any more.
      await database.db.pool.query(`update devices set id = '-1' where id = 'one'`);
      await database.db.pool.query('update devices set last_seen_at = now()');
      const before = await all();
      const file = newFile(format);
      expect((await run(['export', '--hashed', '--output', file])).err).toBe('exported 2 devices\n');
      expect(statSync(file).mode & 0o777).toBe(0o600);
      if (format === 'csv') expect(readFileSync(file, 'utf8')).toContain("'=cmd|x");
      expect((await run(['export', '--hashed', '--output', file])).outcome).toMatchObject({
        code: 'INPUT_INVALID',
      });
      await database.db.pool.query('truncate devices');
      expect((await run(['import', '--hashed', file])).outcome).toBe(0);
      const precise = (row: Record<string, unknown>) => ({ ...row, updated_at: null });
      const after = await all();
      expect(after.map(precise)).toEqual(before.map(precise));
    },
  );

  test('an export without hashes has no secrets, and goes to stdout', async () => {
    await run(['add', '--type', 'b', '--id', 'two']);
    const csv = await run(['export']);
    expect(csv.out.split('\n')[0]).toBe('id,type,metadata,created_at,expires_at,revoked_at,last_seen_at');
    const json = jsonLines((await run(['export', '--format', 'jsonl', '--hashed'])).out);
    expect(json[0]).toMatchObject({ id: 'two', secret_hash: expect.stringMatching(/^[0-9a-f]{64}$/) });
    expect(csv.out).not.toContain(String(json[0]?.secret_hash));
    expect(jsonLines((await run(['export', '--json', '--hashed'])).out)).toEqual(json);
    expect((await run(['export', '--json', '--format', 'csv'])).outcome).toMatchObject({ code: 'USAGE' });
  });

  test.each(['hex', 'base64', 'base64url'] as const)(
    'hashes in %s are taken, and others refused',
    async (encoding) => {
      const salt = Buffer.alloc(24, 7);
      const hash = hashSecret(salt, Buffer.from('anything'));
      const row = {
        id: 'h',
        type: 'a',
        secret_salt: salt.toString(encoding),
        secret_hash: hash.toString(encoding),
      };
      expect((await run(['import', '-', '--hashed'], JSON.stringify(row))).outcome).toBe(0);
      expect(await secretOf('h', 'anything')).toBe('current');
      for (const change of [
        { secret_hash: hash.toString(encoding).slice(2) },
        { secret_salt: 'zz' },
        { secret_salt: undefined },
        { secret_hash: undefined, secret_salt: undefined },
        { id: '' },
        { previous_secret_hash: row.secret_hash, previous_secret_salt: row.secret_salt },
        { secret },
      ]) {
        const { outcome } = await run(
          ['import', '-', '--hashed'],
          JSON.stringify({ ...row, id: 'i', ...change }),
        );
        expect(outcome, JSON.stringify(change)).toMatchObject({ code: 'INPUT_INVALID' });
      }
    },
  );

  test('1,000 are added into a file that is not overwritten', async () => {
    const output = newFile('csv');
    const added = await run(['add', '--type', 'sensor', '--count', '1000', '--output', output]);
    expect(added).toMatchObject({ outcome: 0, out: 'added 1,000 devices\n' });
    expect(statSync(output).mode & 0o777).toBe(0o600);
    const text = readFileSync(output, 'utf8');
    const records = (await readAll(text)).slice(1);
    expect(new Set(records.map(({ cells }) => cells[0])).size).toBe(1_000);
    const [id = '', , , password = ''] = records[999]?.cells ?? [];
    expect(await secretOf(id, password)).toBe('current');
    expect(added.err + added.out).not.toContain(password);
    const again = await run(['add', '--type', 'sensor', '--output', output]);
    expect(again.outcome).toMatchObject({ code: 'INPUT_INVALID' });
    expect(readFileSync(output, 'utf8')).toBe(text);
    expect(await all()).toHaveLength(1_000);
    const failed = newFile('jsonl');
    expect((await run(['add', '--type', 'a', '--id', id, '--output', failed])).outcome).toMatchObject({
      code: 'DEVICE_EXISTS',
    });
    expect(readdirSync(dir.path).join()).not.toContain(failed.split('/').at(-1));
  });

  test.each(['csv', 'jsonl'])(
    'credentials that were written can be imported elsewhere: %s',
    async (format) => {
      const file = newFile(format);
      await run(['add', '--type', 'a', '--count', '3', '--output', file]);
      const ids = (await all()).map(({ id }) => id);
      const [header, line = ''] = readFileSync(file, 'utf8').split('\n');
      await database.db.pool.query('truncate devices');
      expect(await run(['import', file])).toMatchObject({ outcome: 0, out: 'imported 3 devices\n' });
      expect((await all()).map(({ id }) => id)).toEqual(ids);
      const { id, mqtt_password: password } =
        format === 'csv'
          ? { id: line.split(',')[0], mqtt_password: line.split(',')[3] }
          : (jsonLines(line)[0] ?? {});
      expect(await secretOf(String(id), String(password))).toBe('current');
      const other = format === 'csv' ? `${header}\nother,${line.split(',').slice(1).join(',')}` : undefined;
      const { outcome } = await run(
        ['import', '-'],
        other ?? JSON.stringify({ ...jsonLines(line)[0], id: 'other' }),
      );
      expect(outcome).toMatchObject({
        code: 'INPUT_INVALID',
        message: expect.stringMatching(/mqtt_user\)?: must be the id, or empty/),
      });
    },
  );

  test.each([
    ['csv', `id,type,secret\none,a,${secret}\ntwo,a,${secret}\n`],
    ['csv without a line break at its end', `id,type,secret\none,a,${secret}\ntwo,a,${secret}`],
    ['jsonl', ['one', 'two'].map((id) => `${JSON.stringify({ id, type: 'a', secret })}\n`).join('')],
  ])('the progress of an import is told once, and counts rows: %s', async (_name, text) => {
    const file = newFile('txt');
    writeFileSync(file, text);
    expect((await run(['import', file])).err).toBe('importing devices: 100% (2 of 2)\n');
  });

  test('a file whose lines end in carriage returns has its rows counted, too', async () => {
    const file = newFile('csv');
    writeFileSync(file, `id,type,secret\rone,a,${secret}\rtwo,a,${secret}\r`);
    expect((await run(['import', file])).err).toBe('importing devices: 100% (2 of 2)\n');
  });

  test('what comes out of a pipe is imported', async () => {
    const pipe = newFile('pipe');
    execFileSync('mkfifo', [pipe]);
    createWriteStream(pipe).end(`id,type,secret\none,a,${secret}\n`);
    expect(await run(['import', pipe])).toMatchObject({ outcome: 0, out: 'imported 1 device\n' });
  });

  test('two names of one file are refused', async () => {
    const csv = newFile('csv');
    writeFileSync(csv, `id,type\none,a\n`);
    const other = join(dir.path, '.', `../${dir.path.split('/').at(-1)}`, 'same.csv');
    const same = join(dir.path, 'same.csv');
    symlinkSync(csv, `${csv}.link`);
    for (const [args, message] of [
      [['--output', same, '--report', other], '--output and --report are the same file'],
      [['--output', csv, '--report', same, '--force'], 'the input and --output are the same file'],
      [['--output', same, '--report', `${csv}.link`, '--force'], 'the input and --report are the same file'],
    ] as const) {
      expect((await run(['import', csv, '--continue', ...args])).outcome).toMatchObject({
        code: 'USAGE',
        message: expect.stringContaining(message),
      });
    }
    expect(readFileSync(csv, 'utf8')).toBe('id,type\none,a\n');
    expect(existsSync(same)).toBe(false);
    expect(await all()).toEqual([]);
  });

  test('an import that fails with nothing stored leaves no report in the way of the next one', async () => {
    const args = ['import', '-', '--continue', '--report', newFile('csv'), '--output', newFile('csv')];
    expect((await run(args, 'id,type,secret\none,a,"b"c\n')).outcome).toMatchObject({
      code: 'INPUT_INVALID',
    });
    expect((await run(args, 'id,type\none,a\n')).outcome).toBe(0);
  });

  test('a file that cannot be made is named once', async () => {
    const output = join(dir.path, 'nowhere', 'c.csv');
    expect((await run(['add', '--type', 'a', '--output', output])).outcome).toMatchObject({
      message: `The file ${output} cannot be written: ENOENT: no such file or directory`,
    });
  });

  test('a hyphen as --output is stdout, where there is one for it', async () => {
    const added = await run(['add', '--type', 'a', '--count', '2', '--output', '-']);
    const [header, ...records] = await readAll(added.out);
    expect(header?.cells).toEqual(['id', 'type', 'mqtt_user', 'mqtt_password', 'created_at']);
    expect(records).toHaveLength(2);
    for (const { cells } of records) expect(await secretOf(cells[0] ?? '', cells[3] ?? '')).toBe('current');
    const [json] = jsonLines((await run(['add', '--type', 'a', '--output', '-', '--json'])).out);
    expect(json).toHaveProperty('mqtt_password');
    expect((await run(['export', '--output', '-'])).out).toBe((await run(['export'])).out);
    for (const option of [
      ['--output', '-'],
      ['--report', '-', '--continue'],
    ]) {
      expect((await run(['import', '-', ...option], '{"type":"a"}')).outcome).toMatchObject({
        code: 'USAGE',
        message: `${option[0]} cannot be "-": stdout is for the result`,
      });
    }
    expect(existsSync('-')).toBe(false);
  });

  test.runIf(kind === 'postgres')(
    '100,000 rows come in, whole, by the program itself',
    async ({ annotate }) => {
      const file = newFile('csv');
      const rows = Array.from(
        { length: 100_000 },
        (_, at) => `dev-${at},sensor,${secret}${at},site-${at % 10}`,
      );
      writeFileSync(file, `id,type,secret,metadata.site\n${rows.join('\n')}\n`);
      const startedMs = performance.now();
      const ran = await runCli(['device', 'import', file], database.env);
      await annotate(`imported in ${Math.round(performance.now() - startedMs)} ms`);
      expect(ran).toMatchObject({ status: 0, stdout: 'imported 100,000 devices\n' });
      expect(ran.stderr).toContain('importing devices: 100% (100,000 of 100,000)');
      const { rows: counted } = await database.db.pool.query(
        `select count(*)::int as devices, (select count(*)::int from audit_log) as entries from devices`,
      );
      expect(counted).toEqual([{ devices: 100_000, entries: 100_000 }]);
      expect(await secretOf('dev-99999', `${secret}99999`)).toBe('current');
    },
    120_000,
  );
});
