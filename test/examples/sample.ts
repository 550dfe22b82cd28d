import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { messageOf } from '../../src/errors.js';
import { type OnFinished, until } from '../faults/gateway.js';

const run = promisify(execFile);
const examples = fileURLToPath(new URL('../../examples/', import.meta.url));
/** A Python with paho-mqtt and nats-py. */
const python = process.env.TEST_PYTHON ?? 'python3';

/** A program and its arguments. */
type Command = readonly [string, ...string[]];

/** The samples that this machine can run. */
export interface Found {
  readonly devices: readonly Command[];
  readonly consumers: readonly Command[];
  /** Why a sample cannot be run, by its name. */
  readonly problems: ReadonlyMap<string, string>;
}

/** Looks for what the samples need, and builds what has to be built in a directory. */
export async function findSamples(dir: string): Promise<Found> {
  const problems = new Map<string, string>();
  async function tried(name: string, find: () => Promise<Command>): Promise<Command[]> {
    try {
      return [await find()];
    } catch (error) {
      problems.set(name, messageOf(error));
      return [];
    }
  }
  const file = (name: string) => join(examples, name);
  return {
    problems,
    devices: [
      [process.execPath, file('device-node/device.mjs')],
      ...(await tried('device-python', async () => {
        await run(python, ['-c', 'from paho.mqtt.client import CallbackAPIVersion']);
        return [python, file('device-python/device.py')];
      })),
    ],
    consumers: [
      [process.execPath, file('consumer-node/consumer.mjs')],
      ...(await tried('consumer-python', async () => {
        await run(python, ['-c', 'import nats.js.api']);
        return [python, file('consumer-python/consumer.py')];
      })),
      ...(await tried('consumer-go', async () => {
        await run('go', ['build', '-o', join(dir, 'consumer'), '.'], { cwd: file('consumer-go') });
        return [join(dir, 'consumer')];
      })),
    ],
  };
}

/** A sample that runs. */
export interface Sample {
  /** What it has printed, line by line; fails when it has ended by itself. */
  readonly lines: readonly string[];
  /** Waits until it has printed a line that matches. */
  prints(pattern: RegExp): Promise<void>;
  /** Sends a signal and answers the exit status. */
  end(signal: NodeJS.Signals): Promise<number | null>;
}

/** Starts a sample; `env` holds its settings, and little else is inherited. */
export function startSample(
  onFinished: OnFinished,
  [program, ...args]: Command,
  env: Record<string, string>,
): Sample {
  const child = spawn(program, args, {
    cwd: tmpdir(),
    env: { PATH: process.env.PATH, HOME: process.env.HOME, PYTHONIOENCODING: 'utf-8', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const closed = once(child, 'close');
  const lines: string[] = [];
  let errors = '';
  let asked = false;
  createInterface({ input: child.stdout }).on('line', (line) => lines.push(line));
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    errors += text;
  });
  const sample: Sample = {
    get lines() {
      if (!asked && child.exitCode !== null)
        throw new Error(`the sample ended: ${errors}${lines.slice(-5).join('\n')}`);
      return lines;
    },
    prints: (pattern) =>
      until(`${args.at(-1) ?? program} prints ${pattern}`, () =>
        sample.lines.some((line) => pattern.test(line)),
      ),
    async end(signal) {
      asked = true;
      child.kill(signal);
      return (await closed)[0];
    },
  };
  onFinished(async () => {
    await sample.end('SIGKILL');
  });
  return sample;
}
