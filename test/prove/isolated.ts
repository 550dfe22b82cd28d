import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Proof } from './proof.js';
import type { Report } from './report.js';
import { type Limits, type Outcome, runProof } from './run-proof.js';

const root = fileURLToPath(new URL('../..', import.meta.url));
const variable = 'SVC_MQTT_PROVE_ISOLATED';

/** Whether this process is one that `runIsolated` started. */
export const isIsolated = process.env[variable] === '1';

/** Runs a proof where it belongs. */
export async function prove(proof: Proof, limits: Limits): Promise<Outcome> {
  const here = proof.isolated !== true || isIsolated || (await proof.findObstacle()) !== undefined;
  return here ? runProof(proof, limits) : runIsolated(proof, limits);
}

/** Runs a proof as `npm run prove` does, in a process that has a network of its own, so that the machine's is left alone. */
async function runIsolated(proof: Proof, limits: Limits): Promise<Outcome> {
  const directory = mkdtempSync(path.join(tmpdir(), 'svc-mqtt-prove-'));
  const file = path.join(directory, 'report.json');
  const args = ['--proof', proof.name, '--seed', String(limits.seed), '--json', file];
  if (limits.rounds !== undefined) args.push('--rounds', String(limits.rounds));
  if (limits.minutes !== undefined) args.push('--minutes', String(limits.minutes));
  try {
    const child = spawn(
      'unshare',
      [
        '--net',
        process.execPath,
        '--import',
        'tsx',
        fileURLToPath(new URL('main.ts', import.meta.url)),
        ...args,
      ],
      { cwd: root, env: { ...process.env, [variable]: '1' }, stdio: ['ignore', 'ignore', 'pipe'] },
    );
    let said = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      said = (said + text).slice(-8_000);
      limits.onOutput?.(text);
    });
    const killWithUs = () => child.kill('SIGKILL');
    process.once('exit', killWithUs);
    limits.stopping?.addEventListener('abort', () => child.kill('SIGTERM'));
    await new Promise<void>((resolve, reject) => {
      child.once('error', reject);
      child.once('close', () => resolve());
    });
    process.off('exit', killWithUs);
    try {
      const [outcome] = (JSON.parse(readFileSync(file, 'utf8')) as Report).outcomes;
      if (outcome !== undefined) return outcome;
    } catch {
      // What it said tells why.
    }
    const { name, claim, faults } = proof;
    return {
      name,
      claim,
      faults,
      result: 'broken',
      because: [`no report: ${said}`],
      versions: {},
      rounds: [],
    };
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}
