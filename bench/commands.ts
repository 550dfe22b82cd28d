import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { median } from './median.js';
import { programFile } from './root.js';

/**
 * What a command costs until it has answered: CPU time of its own process, user and system, the median of some runs. With
 * an embedded database, whose server process is not counted.
 */
const runs = 9;

/** Writes what the process has used to file descriptor 3 when it ends. */
const meter = `data:text/javascript,${encodeURIComponent(`
  import { writeSync } from 'node:fs';
  process.on('exit', () => { const { user, system } = process.cpuUsage(); writeSync(3, String(user + system)); });
`)}`;

/** The commands, and the most that each should cost, ms; node alone for comparison. */
const commands: readonly (readonly [name: string, args: readonly string[], mostMs?: number])[] = [
  ['node -e 0', ['-e', '0']],
  ['svc-mqtt --version', [programFile, '--version'], 150],
  ['one TAB of completion', [programFile, '__complete', 'device', 'list', '--so'], 150],
  ['svc-mqtt device list --help', [programFile, 'device', 'list', '--help'], 150],
  ['svc-mqtt device list', [programFile, 'device', 'list'], 500],
];

const directory = mkdtempSync(path.join(tmpdir(), 'svc-mqtt-bench-'));
try {
  measure([programFile, 'device', 'add', '--type', 'sensor', '--count', '20', '--json']);
  process.stdout.write(`| command | CPU, ms | at most |\n|---|---|---|\n`);
  for (const [name, args, mostMs] of commands) {
    const usedMs = median(Array.from({ length: runs }, () => measure(args)));
    process.stdout.write(`| \`${name}\` | ${usedMs.toFixed(0)} | ${mostMs ?? ''} |\n`);
    if (mostMs !== undefined && usedMs > mostMs) process.exitCode = 1;
  }
} finally {
  rmSync(directory, { recursive: true, force: true });
}

function measure(args: readonly string[]): number {
  const ran = spawnSync(process.execPath, ['--import', meter, ...args], {
    env: { PATH: process.env.PATH, HOME: process.env.HOME, DATA_DIR: directory },
    stdio: ['ignore', 'ignore', 'pipe', 'pipe'],
  });
  if (ran.status !== 0) throw new Error(`${args.join(' ')}: ${String(ran.stderr)}`);
  return Number(ran.output[3]) / 1_000;
}
