import { PassThrough } from 'node:stream';
import { stripVTControlCharacters } from 'node:util';
import { renderToString } from 'ink';
import { render } from 'ink-testing-library';
import { describe, expect, test, vi } from 'vitest';
import type { PassingMessageJson } from '../../src/api/passing-message.js';
import type { FollowMessages, MessageListener } from '../../src/cli/store/follow-messages.js';
import { cellWidth, lineWidth, plainText } from '../../src/cli/terminal/cells.js';
import { Screen, TopApp } from '../../src/cli/top/app.js';
import { openFrameWriter } from '../../src/cli/top/frame-writer.js';
import { drawScreen } from '../../src/cli/top/screen.js';
import { startTopSession } from '../../src/cli/top/session.js';
import { initialState, listRequestOf, requestOf, type TopState, type View } from '../../src/cli/top/state.js';
import { showScreen } from '../../src/cli/top/top.js';
import { SvcMqttError } from '../../src/errors.js';
import { fakeIo } from '../cli/support.js';
import {
  act,
  answerList,
  details,
  deviceDetails,
  fakeApi,
  fleet,
  open,
  pageOf,
  row,
  session,
  stats,
} from './data.js';

const where = 'http://127.0.0.1:9091';
const textOf = (state: TopState) => drawScreen(state, where).map(plainText).join('\n');

const passing = ['{"celsius": 21.5}', 'a\u001b[31m 倉庫', 'x'.repeat(2_000), '\u0000\u0001'].map(
  (text, index): PassingMessageJson => ({
    at: stats.at,
    subject: 'raw.device0003',
    topic: index === 3 ? null : `raw/device0003/${'倉庫/'.repeat(index * 10)}`,
    size: Buffer.byteLength(text),
    payload_base64: Buffer.from(text).subarray(0, 1_024).toString('base64'),
  }),
);

const show = (state: TopState, view: View) => answerList(act(state, { type: 'view', view }), 500);

/** Every kind of screen. */
async function screensOf(columns: number, rows: number): Promise<Record<string, TopState>> {
  const table = open(columns, rows, 500);
  const opened = act(table, { type: 'move', by: 3 }, { type: 'open', screen: 'details' });
  const devices = await show(table, 'devices');
  const deviceScreen = act(devices, { type: 'move', by: 3 }, { type: 'open', screen: 'details' });
  const sessions = Array.from({ length: 60 }, (_, index) => session(index, { client: '倉庫'.repeat(index) }));
  return {
    devices,
    noDevices: await answerList(act(table, { type: 'view', view: 'devices' }), 0),
    sessions: await show(table, 'sessions'),
    replicas: await show(table, 'replicas'),
    events: await show(table, 'events'),
    loadingList: act(table, { type: 'view', view: 'sessions' }),
    device: act(deviceScreen, {
      type: 'device',
      id: 'device0003',
      found: { device: deviceDetails, sessions },
    }),
    peeking: act(deviceScreen, { type: 'peek' }),
    messages: act(
      deviceScreen,
      { type: 'peek' },
      ...passing.map((message) => ({ type: 'passed', device: 'device0003', message }) as const),
      { type: 'passed-by', device: 'device0003', missed: 7 },
    ),
    deviceGone: act(deviceScreen, { type: 'device', id: 'device0003', found: 'gone' }),
    connecting: initialState({ columns, rows }),
    refused: act(initialState({ columns, rows }), {
      type: 'lost',
      reason: 'the connection is refused',
      retryInSec: 4,
    }),
    table,
    empty: open(columns, rows, 0),
    gone: act(table, { type: 'lost', reason: 'does not answer', retryInSec: 2 }),
    asking: act(table, { type: 'revoke' }),
    filtering: act(table, { type: 'filter-begin' }, { type: 'filter-type', text: 'sensor 倉庫' }),
    details: act(opened, { type: 'details', id: 'r1-3', found: details }),
    ended: act(opened, { type: 'details', id: 'r1-3', found: 'ended' }),
    help: act(table, { type: 'open', screen: 'help' }),
    log: act(table, { type: 'log', lines: ['a line', 'x'.repeat(400)] }, { type: 'open', screen: 'log' }),
  };
}

describe('the screen', () => {
  const sizes = [
    [200, 60],
    [120, 40],
    [100, 30],
    [80, 24],
    [60, 15],
    [40, 10],
    [20, 6],
    [5, 3],
    [1, 1],
  ] as const;

  test.each(sizes)('fills %i × %i cells exactly, whatever it shows', async (columns, rows) => {
    for (const [name, state] of Object.entries(await screensOf(columns, rows))) {
      const lines = drawScreen(state, where);
      expect(lines.length, name).toBe(rows);
      for (const line of lines) expect(lineWidth(line), `${name}: ${plainText(line)}`).toBe(columns);
    }
  });

  test.each(sizes.slice(2))('is drawn as it is on a terminal of %i × %i', async (columns, rows) => {
    for (const [name, state] of Object.entries(await screensOf(columns, rows))) {
      const lines = drawScreen(state, where);
      const { lastFrame, unmount } = render(<Screen lines={lines} color={false} />);
      const drawn = stripVTControlCharacters(lastFrame() ?? '').split('\n');
      expect(
        drawn.map((line) => line.trimEnd()),
        name,
      ).toEqual(lines.map((line) => plainText(line).trimEnd()));
      unmount();
    }
  });

  test('shows every column when there is room, and the most important ones when there is not', () => {
    const titles = (columns: number) =>
      (
        textOf(open(columns, 24))
          .split('\n')
          .find((line) => line.includes('DEVICE')) ?? ''
      )
        .trim()
        .split(/ {2,}/);
    expect(titles(200)).toEqual([
      'DEVICE',
      'TYPE',
      'CLIENT ID',
      'ADDRESS',
      'MQTT',
      'VIA',
      'QOS 0/1/2 %',
      'MSG/S▼',
      'MESSAGES',
      'BYTES',
      'IN FLIGHT',
      'SUBS',
      'CONNECTED',
      'LAST MSG',
    ]);
    expect(titles(60)).toEqual(['DEVICE', 'CLIENT ID', 'MSG/S▼', 'IN FLIGHT', 'LAST MSG']);
    expect(titles(30)).toEqual(['DEVICE', 'CLIENT ID']);
  });

  test.each([200, 120, 80, 60, 40, 30])('shows a generated device id whole in %i columns', (columns) => {
    const id = 'k2v7q4mzt6xw3hba';
    const state = initialState({ columns, rows: 24 });
    const request = requestOf(state);
    const page = { ...pageOf(request, 1), connections: [row(0, { device: id, client: 'x'.repeat(40) })] };
    expect(textOf(act(state, { type: 'page', request, page }))).toContain(` ${id} `);
  });

  test.each([200, 120, 80, 40])('tells what went wrong first, in %i columns', (columns) => {
    for (const rows of [40, 24, 16, 10]) {
      const late = { ...stats, ack_latency_ms: { p50: 12_345, p99: 23_456 } };
      const state = act(open(columns, rows), { type: 'stats', stats: late });
      expect(textOf(state), `${columns} × ${rows}`).toMatch(/failures 12/);
      const away = { ...late, nats: { ok: false, detail: 'nats://127.0.0.1:4222 does not answer' } };
      const lines = textOf(act(state, { type: 'stats', stats: away })).split('\n');
      expect(lines[0], `${columns} × ${rows}`).toMatch(rows === 10 ? /● nats/ : /● NATS (is away|nats)/);
    }
  });

  test.each([80, 120, 200])(
    'shows the latest events in %i columns and 24 rows, with their reasons',
    (columns) => {
      const text = textOf(open(columns, 24));
      expect(text).toMatch(/refused +nobody .*bad-credentials/);
      expect(text).toMatch(/dropped .*qos0 × 12\.0k/);
      expect(text).toMatch(/connected +device0001 .*client-1/);
    },
  );

  test('says what can be answered, however long the question is', () => {
    const asking = act(open(60, 20), { type: 'revoke' });
    expect(textOf(asking)).toMatch(/^ Revoke device device0000\? .*… y\/N *$/m);
    expect(textOf(act(open(120, 24), { type: 'revoke' }))).toContain('until it is enabled again. y/N');
  });

  test('marks of an event only what is cut', () => {
    const [, refused] = stats.recent_events;
    if (refused === undefined) throw new Error('there is no such event');
    const device = 'a'.repeat(16);
    const recent = [{ ...refused, device, reason: 'bad-credentials' }];
    const events = textOf(act(open(80, 24), { type: 'stats', stats: { ...stats, recent_events: recent } }));
    expect(events).toMatch(/bad-credentials *$/m);
  });

  test('names the keys that act in 80 columns', () => {
    for (const state of [open(80, 24), act(open(80, 24), { type: 'freeze' })]) {
      const keys = textOf(state).split('\n').at(-1) ?? '';
      for (const hint of ['q quit', '? help', '/ filter', 'x kick', 'R revoke', 'c copy'])
        expect(keys).toContain(hint);
      expect(keys).toMatch(/Space (freeze|go on)/);
    }
    expect(textOf(open(120, 24))).toContain('Space freeze  < > sort  r reverse');
  });

  test('tells why clients wait', async () => {
    const causes = [
      { cause: 'no_stream', detail: 'no stream takes the subject', clients: 1_234, since: stats.at },
      { cause: 'timeout', detail: 'no confirmation', clients: 1, since: stats.at },
    ];
    const waiting = { ...stats, waiting: { ...stats.waiting, causes } };
    const text = textOf(act(open(80, 24), { type: 'stats', stats: waiting }));
    expect(text).toMatch(/connections 12,345 +failures 12 +waiting 17 \(1\.2k clients: no_stream, …\)/);
    expect(textOf((await screensOf(120, 30)).details as TopState)).toContain(
      'waits for     plant.device0003: no stream takes the subject (no_stream), for 11s',
    );
  });

  test('tells what a client of MQTT 5 takes, which one of 3.1.1 cannot say', async () => {
    const screen = (await screensOf(120, 30)).details as TopState;
    expect(textOf(screen)).not.toContain('topic aliases');
    const found = { ...details, protocol: '5.0', receive_maximum: 2_000, topic_alias_maximum: 3 };
    const text = textOf(act(screen, { type: 'details', id: 'r1-3', found }));
    expect(text).toMatch(/takes +2,000 unacknowledged messages, 3 topic aliases/);
  });

  test('tells what a connection does', () => {
    const text = textOf(open(200, 24));
    expect(text).toMatch(
      /device0000 +sensor +client-0 +192\.0\.2\.7:40000 +3\.1\.1 +tcp +20 +80 +· +1\.5 +100 +1\.1 kB +0 +1 +1h02 +2s/,
    );
    expect(text).toMatch(/svc-mqtt 1\.2\.3 +replica r1 \(1 of 2\) +up 1d01 .*● NATS +● database/);
    expect(text).toMatch(
      /connections 12,345 +failures 12 connects refused +waiting 17 +ack p50 0\.42 ms +p99 12\.3 ms +stored 9,876,543/,
    );
    expect(text).toContain('1–12 of 100   by msg/s ▼');
  });

  test('keeps the last data greyed and says that the server is gone', async () => {
    const { gone } = await screensOf(100, 30);
    const lines = drawScreen(gone as TopState, where);
    expect(textOf(gone as TopState)).toContain('✗ does not answer; trying again in 2 s');
    expect(textOf(gone as TopState)).toContain('device0000');
    for (const line of lines.slice(0, -2))
      for (const span of line) if (span.text.trim() !== '') expect(span.dim).toBe(true);
  });

  test('says what is wrong with NATS', () => {
    const nats = { ok: false, detail: 'does not answer' };
    const state = act(open(140, 30), { type: 'stats', stats: { ...stats, nats } });
    expect(textOf(state)).toContain('● NATS does not answer');
  });

  test('keeps columns in place with wide and hostile client ids', () => {
    const state = initialState({ columns: 120, rows: 24 });
    const request = { filter: '', sort: 'rate', descending: true, offset: 0, limit: 50 } as const;
    const clients = [
      'plain',
      '倉庫-温度-03',
      '🚚 truck',
      'a\u001b[31mb\u0007',
      'x'.repeat(300),
      '\u202egnirts',
    ];
    const page = {
      ...pageOf(request, 6),
      connections: clients.map((client, index) => row(index, { client })),
    };
    const lines = drawScreen(act(state, { type: 'page', request, page }), where).map(plainText);
    const rows = lines.filter((line) => line.includes(' device00'));
    expect(rows).toHaveLength(6);
    const columnsOfAddress = rows.map((line) => cellWidth(line.slice(0, line.indexOf('192.0.2.7'))));
    expect(new Set(columnsOfAddress).size).toBe(1);
    expect(lines.join('')).not.toMatch(/\p{Cc}/u);
  });

  test.each([80, 120, 200])('shows the other lists in %i columns', async (columns) => {
    const state = open(columns, 24);
    const textIn = async (view: View) => textOf(await show(state, view));
    const devices = await textIn('devices');
    expect(devices).toMatch(/DEVICE +TYPE +STATE +LAST SEEN +PENDING/);
    expect(devices).toMatch(/device0001 +sensor +active +2m05 +3 /);
    expect(devices).toContain('1–12 of 24+');
    const sessions = await textIn('sessions');
    expect(sessions).toMatch(/DEVICE +CLIENT ID +STATE +AWAY +PENDING/);
    expect(sessions).toMatch(/device0001 +client-1 +away +1h02 +3 .*2h00/);
    const replicas = await textIn('replicas');
    expect(replicas).toMatch(/r1 .*answers +1d01 +12\.3k +1\.2k/);
    const events = await textIn('events');
    expect(events).toMatch(/refused +nobody +bad-credentials/);
    expect(events).toMatch(/dropped +qos0 × 12\.0k/);
    for (const text of [devices, sessions, replicas, events]) {
      const [status = '', keys = ''] = text.split('\n').slice(-2);
      expect(status).toMatch(/1( connections)? +2( devices)? +3( sessions)? +4( replicas)? +5( events)?/);
      expect(keys).toContain('q quit');
    }
  });

  test('keeps the columns of a list in place, whatever comes into it', async () => {
    const state = await show(open(100, 24), 'sessions');
    const request = listRequestOf(state);
    if (request === undefined) throw new Error('no list');
    const at = (shown: TopState) =>
      textOf(shown)
        .split('\n')
        .find((line) => line.includes('DEVICE'))
        ?.indexOf('STATE');
    const list = state.list ?? { rows: [], more: false };
    const [first] = list.rows;
    if (first === undefined) throw new Error('no row');
    const wide = { ...first, cells: first.cells.map((cell, index) => (index === 1 ? 'x'.repeat(24) : cell)) };
    const grown = act(state, { type: 'list', request, list: { rows: [wide], more: false } });
    expect(at(grown)).toBeGreaterThan(at(state) ?? 0);
    expect(at(act(grown, { type: 'list', request, list }))).toBe(at(grown));
  });

  test('draws the rate of one connection as it was, second by second', async () => {
    let state = (await screensOf(120, 30)).details as TopState;
    for (const rate of [0, 5, 10])
      state = act(state, { type: 'details', id: 'r1-3', found: { ...details, rate } });
    expect(textOf(state)).toMatch(/a second +▂▁▄█/);
  });

  test('tells what is known of a device', async () => {
    const text = textOf((await screensOf(120, 40)).device as TopState);
    for (const words of [
      /device +device0003 +sensor/,
      /state +active +last seen/,
      /metadata +site=lyon/,
      /messages in +12,345 +12,300 stored +the last as RAW 99/,
      /refused +4 +the last .* ago .*: topic/,
      /commands +3 wait for it/,
      /SESSIONS 60/,
    ])
      expect(text).toMatch(words);
  });

  test('shows the messages of a device as they pass, the latest at the bottom', async () => {
    const lines = textOf((await screensOf(120, 30)).messages as TopState).split('\n');
    const at = lines.findIndex((line) => line.includes('MESSAGES OF device0003   7 not shown'));
    expect(lines[at + 2]).toMatch(/raw\/device0003\/ +17 B +\{"celsius": 21\.5\}/);
    expect(lines[at + 3]).toContain('a\\u001b[31m 倉庫');
    expect(lines[at + 4]).toMatch(/2\.0 kB +x+…/);
    expect(lines[at + 5]).toMatch(/raw\.device0003 +2 B +0x0001/);
  });

  test('says that sessions cannot be read, and shows devices without what waits for them', async () => {
    const away = new SvcMqttError('NATS_UNREACHABLE', 'The sessions cannot be reached');
    const api = { ...fakeApi(5), listSessions: () => Promise.reject(away) };
    const state = open(100, 24);
    const sessions = await answerList(act(state, { type: 'view', view: 'sessions' }), 5, api);
    expect(textOf(sessions)).toContain('The sessions cannot be reached');
    const devices = await answerList(act(state, { type: 'view', view: 'devices' }), 5, api);
    expect(textOf(devices)).toMatch(/device0001 +sensor +active +2m05 +…/);
  });

  test('has colours only where they are wanted', () => {
    const lines = [[{ text: 'red', color: 'red' as const }]];
    const element = (color: boolean) => <Screen lines={lines} color={color} />;
    expect(renderToString(element(false))).toBe('red');
    const props = JSON.stringify([
      element(true).type(element(true).props),
      element(false).type(element(false).props),
    ]);
    expect(props.match(/"color":"red"/g)).toHaveLength(1);
  });
});

describe('what is written to the terminal', () => {
  test('is only the lines that differ', () => {
    const written: string[] = [];
    const writer = openFrameWriter({ write: (text: string) => written.push(text) > 0 } as never);
    writer.write('a\nb\nc');
    writer.write('a\nB\nc');
    writer.write('a\nB\nc');
    writer.write('a');
    writer.forget();
    writer.write('a');
    expect(written.map((text) => text.replaceAll('\x1b', '␛'))).toEqual([
      '␛[?2026h␛[1;1H␛[2Ka␛[2;1H␛[2Kb␛[3;1H␛[2Kc␛[?2026l',
      '␛[?2026h␛[2;1H␛[2KB␛[?2026l',
      '␛[?2026h␛[2;1H␛[2K␛[3;1H␛[2K␛[?2026l',
      '␛[?2026h␛[1;1H␛[2Ka␛[?2026l',
    ]);
  });
});

describe('keys', () => {
  const api = fakeApi(300);
  const follow: FollowMessages = async () => {};

  test('move, filter, open, kick, revoke and quit', async () => {
    const copied: string[] = [];
    const session = startTopSession({
      api,
      follow,
      initial: initialState({ columns: 100, rows: 30 }),
      copy: (text) => copied.push(text),
    });
    const { stdin, lastFrame, unmount } = render(<TopApp session={session} where={where} color={false} />);
    const shows = (text: string) => vi.waitFor(() => expect(lastFrame()).toContain(text));
    await shows('device0000');
    stdin.write('jjj');
    stdin.write('\u001b[B');
    await vi.waitFor(() => expect(session.state.cursor).toBe(4));
    stdin.write('x');
    await shows('Kick client client-4 of device0004? It may come back.');
    stdin.write('y');
    await shows('Kicked device0004, client client-4');
    expect(api.kick).toHaveBeenCalledWith('r1-4');
    stdin.write('R');
    await shows('Revoke device device0004? It stays out until it is enabled again.');
    stdin.write('y');
    await shows('Device device0004 is revoked');
    expect(api.revoke).toHaveBeenCalledWith('device0004');
    stdin.write('c');
    await vi.waitFor(() => expect(copied).toEqual(['device0004']));
    stdin.write('\r');
    await shows('SUBSCRIPTIONS 30');
    stdin.write('\u001b');
    await shows('DEVICE');
    stdin.write('/');
    stdin.write('abc');
    await shows('/abc');
    stdin.write('\r');
    await shows('filter abc');
    stdin.write(' ');
    await shows('FROZEN');
    stdin.write('?');
    await shows('KEYS');
    stdin.write('q');
    await shows('DEVICE');
    stdin.write('\u0003');
    await session.quit;
    session.close();
    unmount();
  });

  test('go from list to list, and come back to where each was', async () => {
    const session = startTopSession({
      api,
      follow,
      initial: initialState({ columns: 100, rows: 30 }),
      copy() {},
    });
    const { stdin, lastFrame, unmount } = render(<TopApp session={session} where={where} color={false} />);
    const shows = (text: string | RegExp) => vi.waitFor(() => expect(lastFrame()).toMatch(text));
    await shows(/device0000.*client-0/);
    stdin.write('jj');
    await vi.waitFor(() => expect(session.state.cursor).toBe(2));
    stdin.write('2');
    await shows('LAST SEEN');
    stdin.write('/device010no');
    await shows('/device010no');
    stdin.write('\u007f\u007f\r');
    await shows(/1–10 of 10/);
    stdin.write('j\r');
    await shows(/state +active +last seen/);
    await shows('SESSIONS 1');
    stdin.write('R');
    await shows('Revoke device device0101?');
    stdin.write('n');
    stdin.write('\t');
    await shows(/client-0 +away/);
    stdin.write('x');
    await shows('End session client-0 of device0000? What waits for it is lost.');
    stdin.write('y');
    await shows('Ended the session of device0000, client client-0');
    expect(api.endSession).toHaveBeenCalledWith('device0000.client-0');
    stdin.write('4');
    await shows(/r1 .*answers/);
    stdin.write('\r');
    await shows(/replica r1 .*1–/);
    await vi.waitFor(() => expect(session.state.page).toBeDefined());
    stdin.write('\u001b');
    await vi.waitFor(() => expect(session.state.replica).toBeUndefined());
    stdin.write('5');
    await shows('bad-credentials');
    stdin.write('2');
    await shows('filter device010');
    expect(session.state.cursor).toBe(1);
    session.close();
    unmount();
  });

  test('peek at the messages of a device, until that is left', async () => {
    const followed: { device: string; listener: MessageListener; signal: AbortSignal }[] = [];
    const session = startTopSession({
      api,
      initial: initialState({ columns: 100, rows: 30 }),
      follow: (device, listener, signal) => {
        followed.push({ device, listener, signal });
        if (followed.length > 1) return Promise.reject(new SvcMqttError('FORBIDDEN', 'It takes an operator'));
        return new Promise(() => {});
      },
      copy() {},
    });
    const { stdin, lastFrame, unmount } = render(<TopApp session={session} where={where} color={false} />);
    const shows = (text: string | RegExp) => vi.waitFor(() => expect(lastFrame()).toMatch(text));
    await shows(/device0000.*client-0/);
    stdin.write('p');
    await shows('None has passed yet');
    const [first] = followed;
    first?.listener.message(passing[0] as PassingMessageJson);
    await shows(/raw\/device0000|raw\/device0003.*celsius/);
    stdin.write(' ');
    await shows('FROZEN');
    first?.listener.message(passing[1] as PassingMessageJson);
    await shows('1 not shown');
    stdin.write(' ');
    stdin.write('q');
    await shows(/device0000.*client-0/);
    expect(first?.device).toBe('device0000');
    expect(first?.signal.aborted).toBe(true);
    stdin.write('p');
    await shows('It takes an operator');
    session.close();
    expect(followed[1]?.signal.aborted).toBe(true);
    unmount();
  });

  test('kick again what could not be kicked', async () => {
    const kick = vi.fn(async (_id: string) => Promise.reject(new Error('the role is too low')));
    const session = startTopSession({
      api: { ...api, kick },
      follow,
      initial: initialState({ columns: 100, rows: 30 }),
      copy() {},
    });
    const { stdin, lastFrame, unmount } = render(<TopApp session={session} where={where} color={false} />);
    await vi.waitFor(() => expect(lastFrame()).toContain('device0000'));
    const kickIt = async () => {
      stdin.write('x');
      await vi.waitFor(() => expect(session.state.question).toBeDefined());
      stdin.write('y');
    };
    await kickIt();
    await vi.waitFor(() => expect(lastFrame()).toContain('the role is too low'));
    await kickIt();
    await vi.waitFor(() => expect(kick.mock.calls).toEqual([['r1-0'], ['r1-0']]));
    session.close();
    unmount();
  });

  test('do nothing to a device when they are pasted', async () => {
    const [kick, revoke] = [vi.fn(async () => {}), vi.fn(async () => {})];
    const session = startTopSession({
      api: { ...api, kick, revoke },
      follow,
      initial: initialState({ columns: 100, rows: 30 }),
      copy() {},
    });
    const { stdin, lastFrame, unmount } = render(<TopApp session={session} where={where} color={false} />);
    await vi.waitFor(() => expect(lastFrame()).toContain('device0000'));
    stdin.write('Ry');
    stdin.write('xYRy');
    stdin.write('jxyj');
    await vi.waitFor(() => expect(session.state.cursor).toBe(2));
    expect(session.state.question).toBeUndefined();
    stdin.write('R');
    await vi.waitFor(() => expect(session.state.question).toBeDefined());
    stdin.write('y\n');
    stdin.write('yes');
    stdin.write('n');
    await vi.waitFor(() => expect(session.state.question).toBeUndefined());
    expect([kick.mock.calls, revoke.mock.calls]).toEqual([[], []]);
    session.close();
    unmount();
  });

  test('end with their terminal', async () => {
    const stdin = Object.assign(new PassThrough(), {
      isTTY: true as const,
      setRawMode: () => stdin,
      ref: () => stdin,
      unref: () => stdin,
    });
    const io = { ...fakeIo(), stdin };
    const request = { filter: '', sort: 'rate', descending: true } as const;
    let asked = 0;
    const counting = {
      ...api,
      fleet: async () => {
        asked += 1;
        return fleet;
      },
    };
    const shown = showScreen({ api: counting, follow, where, request }, io);
    await vi.waitFor(() => expect(asked).toBeGreaterThan(0));
    stdin.end();
    await shown;
    expect(io.out()).toContain('\u001b[?1049l');
  });

  test('stay alive while the replica is away, and the screen comes back with it', async () => {
    let away = true;
    const broken = { ...api, fleet: async () => (away ? Promise.reject(new Error('no answer')) : fleet) };
    const session = startTopSession({
      api: broken,
      follow,
      initial: initialState({ columns: 100, rows: 30 }),
      copy() {},
    });
    const { lastFrame, unmount } = render(<TopApp session={session} where={where} color={false} />);
    await vi.waitFor(() => expect(lastFrame()).toMatch(/✗ no answer; trying again in \d+ s/));
    away = false;
    await vi.waitFor(() => expect(lastFrame()).toContain('device0000'));
    session.close();
    unmount();
  });
});
