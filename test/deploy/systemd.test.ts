import { expect, test } from 'vitest';
import { settings } from '../../src/config.js';
import { readText } from './support/files.js';

const unit = readText('deploy/svc-mqtt.service');
const { scripts } = JSON.parse(readText('package.json')) as { scripts: { start: string } };
/** As `npm start` does, with the same flags of Node.js. */
const start = scripts.start.replace('exec node', '/usr/bin/node').replace('dist/', '/opt/svc-mqtt/dist/');

/** What a unit has to do so that stopping it drains the server and loses nothing. */
function check(text: string): string[] {
  const read = (name: string) => new RegExp(`^${name}=(.*)$`, 'm').exec(text)?.[1] ?? '';
  const rules: [boolean, string][] = [
    [read('ExecStart') === start, 'systemd does not start the server itself'],
    [read('KillMode') === 'mixed', 'the embedded NATS ends before the server has drained'],
    [read('KillSignal') === 'SIGTERM', 'the server is not stopped by SIGTERM'],
    [Number(read('TimeoutStopSec')) > settings.shutdownTimeoutSec.default, 'TimeoutStopSec ends the drain'],
    [
      Number(read('LimitNOFILE')) > settings.maxConnections.default,
      'fewer files may be open than there may be connections',
    ],
  ];
  return rules.filter(([kept]) => !kept).map(([, problem]) => problem);
}

test('the unit for systemd starts the server itself and lets it drain', () => {
  expect(check(unit)).toEqual([]);
});

test.each([
  [/ExecStart=.*/, 'ExecStart=/usr/bin/npm start', 'does not start the server itself'],
  ['KillMode=mixed', 'KillMode=control-group', 'before the server has drained'],
  ['TimeoutStopSec=60', 'TimeoutStopSec=15', 'ends the drain'],
  ['LimitNOFILE=131072', 'LimitNOFILE=1024', 'fewer files'],
])('the check of the unit finds %s as %s', (before, after, problem) => {
  const changed = unit.replace(before, after);
  expect(changed).not.toBe(unit);
  expect(check(changed).join()).toContain(problem);
});
