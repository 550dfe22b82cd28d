import { setTimeout as delay } from 'node:timers/promises';
import type { Config } from '../../config.js';
import { readVersion } from '../../version.js';
import type { Call } from '../command/command.js';
import { openCommandLog } from '../command/command-log.js';
import { requireGoing, whenAborted, write } from '../terminal/io.js';
import { toJsonLine } from '../terminal/text.js';
import { checkAllCertificates } from './check-certificates.js';
import { checkDatabase, type UsableDatabase } from './check-database.js';
import { checkDataDirectory, checkOpenFiles } from './check-machine.js';
import { checkNats, type UsableNats } from './check-nats.js';
import { checkPorts, checkReplica, findReplica } from './check-server.js';
import { type Check, type Finding, runCheck } from './finding.js';
import { formatFinding, formatSummary } from './report.js';
import { checkRoundTrip } from './round-trip.js';

const checkTimeoutMs = 20_000;
/** Opening an embedded database that nobody has open takes a while. */
const databaseTimeoutMs = 60_000;
/** Longest wait after a signal. */
const tidyTimeoutMs = 3_000;

/**
 * Looks at everything that the gateway needs and says of each part how it is and what to do. What one check finds does
 * not keep the others from looking.
 *
 * @returns the exit status: 1 when there is a problem.
 */
export async function runDoctor(call: Call): Promise<number> {
  const { options, io } = call;
  const findings: Finding[] = [];
  const colours = io.stdout.isTTY === true && (io.env.NO_COLOR ?? '') === '';
  const show = async (found: readonly Finding[]) => {
    requireGoing(io.signal);
    findings.push(...found);
    if (options.json === true) return;
    for (const finding of found) await write(io.stdout, formatFinding(finding, { colours }));
  };
  const aborted = whenAborted(io.signal);
  const examining = examine(call, show);
  try {
    await Promise.race([examining, aborted.promise]);
  } catch (error) {
    // What was made for the examination is removed.
    await Promise.race([examining.catch(() => {}), delay(tidyTimeoutMs, undefined, { ref: false })]);
    throw error;
  } finally {
    aborted.release();
  }
  const sick = findings.some(({ status }) => status === 'problem');
  if (options.json === true) {
    await write(io.stdout, toJsonLine({ status: sick ? 'problems' : 'ok', checks: findings.map(toJson) }));
  } else {
    await write(io.stderr, formatSummary(findings));
  }
  return sick ? 1 : 0;
}

async function examine(
  call: Call<{ /** False: no device is added and no message sent. */ readonly message?: boolean }>,
  show: (found: readonly Finding[]) => Promise<void>,
): Promise<void> {
  const run = async (name: string, work: (check: Check) => Promise<void>, timeoutMs = checkTimeoutMs) =>
    show(await runCheck(name, timeoutMs, work));
  let config: Config | undefined;
  await run('config', async (check) => {
    // Settings that make no sense are a finding, too.
    config = call.config;
    check.ok('Every setting has a value that it can take');
  });
  if (config === undefined)
    return run('others', async (check) =>
      check.skipped('Nothing else can be looked at without the settings'),
    );
  const settings = config;
  // What a check meets is told in its finding; a log beside it would say it twice.
  const log = openCommandLog({
    ...settings,
    logLevel: settings.logLevel === 'info' ? 'silent' : settings.logLevel,
  });
  const database: UsableDatabase = { db: undefined, current: false, policies: [] };
  const nats: UsableNats = { inspector: undefined };
  try {
    const replica = await findReplica(settings);
    await run('server', (check) => checkReplica(check, replica, readVersion()));
    await run('database', (check) => checkDatabase(check, settings, log, database), databaseTimeoutMs);
    const around = { policies: database.policies, serverRuns: replica !== undefined };
    await run('nats', (check) => checkNats(check, settings, around, nats));
    await run('fleet', async (check) => {
      const { inspector } = nats;
      if (inspector === undefined) check.skipped('NATS cannot be used');
      else await (await import('./check-fleet.js')).checkFleet(check, inspector, readVersion());
    });
    await run('ports', (check) => checkPorts(check, settings, replica));
    await run('certs', (check) => checkAllCertificates(check, settings));
    await run('data', (check) => checkDataDirectory(check, settings));
    await run('open-files', (check) => checkOpenFiles(check, settings, replica));
    await run('message', async (check) => {
      const { db, current } = database;
      const { inspector } = nats;
      if (call.options.message === false) check.skipped('No message was sent, as --no-message asks');
      else if (replica === undefined) check.skipped('There is no running server to send one through');
      else if (db === undefined || !current) check.skipped('The database cannot be used');
      else if (inspector === undefined) check.skipped('NATS cannot be used');
      else await checkRoundTrip(check, settings, { db, inspector, signal: call.io.signal });
    });
  } finally {
    await Promise.allSettled([nats.inspector?.close(), database.db?.close()]);
  }
}

function toJson({ check, status, detail, action }: Finding): Record<string, string | null> {
  return { check, status, detail, action: action ?? null };
}
