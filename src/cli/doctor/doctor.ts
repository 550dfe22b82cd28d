import { setTimeout as delay } from 'node:timers/promises';
import type { Config } from '../../config.js';
import { readVersion } from '../../version.js';
import { openCommandLog } from '../command/command-log.js';
import { type CommandIo, Interrupted, whenAborted, write } from '../terminal/io.js';
import { toJsonLine } from '../terminal/text.js';
import { checkAllCertificates } from './check-certificates.js';
import { checkDatabase, type UsableDatabase } from './check-database.js';
import { checkDataDirectory, checkOpenFiles } from './check-machine.js';
import { checkNats, type UsableNats } from './check-nats.js';
import { checkPorts, checkReplica, findReplica } from './check-server.js';
import { type Finding, ok, runCheck, skipped } from './finding.js';
import { formatFinding, formatSummary } from './report.js';
import { checkRoundTrip } from './round-trip.js';

export interface DoctorOptions {
  readonly json?: boolean | undefined;
  /** False: no device is added and no message sent. */
  readonly message?: boolean | undefined;
}

const checkTimeoutMs = 20_000;
/** Opening an embedded database that nobody has open takes a while. */
const databaseTimeoutMs = 60_000;
/** Longest wait after a signal. */
const tidyTimeoutMs = 3_000;

/**
 * Looks at everything that the gateway needs and says of each part how it is and what to do. What one check finds does
 * not keep the others from looking.
 *
 * @param readSettings may throw: settings that make no sense are a finding, too.
 * @returns the exit status: 1 when there is a problem.
 */
export async function runDoctor(
  readSettings: () => Config,
  options: DoctorOptions,
  io: CommandIo,
): Promise<number> {
  const findings: Finding[] = [];
  const colours = io.stdout.isTTY === true && (io.env.NO_COLOR ?? '') === '';
  const show = async (found: readonly Finding[]) => {
    if (io.signal.aborted) throw new Interrupted(String(io.signal.reason));
    findings.push(...found);
    if (options.json === true) return;
    for (const finding of found) await write(io.stdout, formatFinding(finding, { colours }));
  };
  const aborted = whenAborted(io.signal);
  const examining = examine(readSettings, { ...options, signal: io.signal }, show);
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
  readSettings: () => Config,
  options: DoctorOptions & { readonly signal: AbortSignal },
  show: (found: readonly Finding[]) => Promise<void>,
): Promise<void> {
  let config: Config | undefined;
  await show(
    await runCheck('config', checkTimeoutMs, async (add) => {
      config = readSettings();
      add(ok('config', 'Every setting has a value that it can take'));
    }),
  );
  if (config === undefined) {
    await show([skipped('others', 'Nothing else can be looked at without the settings')]);
    return;
  }
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
    await show(await runCheck('server', checkTimeoutMs, (add) => checkReplica(replica, readVersion(), add)));
    await show(
      await runCheck('database', databaseTimeoutMs, (add) => checkDatabase(settings, log, database, add)),
    );
    const around = { policies: database.policies, serverRuns: replica !== undefined };
    await show(await runCheck('nats', checkTimeoutMs, (add) => checkNats(settings, around, nats, add)));
    await show(
      await runCheck('fleet', checkTimeoutMs, async (add) => {
        const { inspector } = nats;
        if (inspector === undefined) add(skipped('fleet', 'NATS cannot be used'));
        else await (await import('./check-fleet.js')).checkFleet(inspector, readVersion(), add);
      }),
    );
    await show(await runCheck('ports', checkTimeoutMs, (add) => checkPorts(settings, replica, add)));
    await show(await runCheck('certs', checkTimeoutMs, (add) => checkAllCertificates(settings, add)));
    await show(await runCheck('data', checkTimeoutMs, (add) => checkDataDirectory(settings, add)));
    await show(await runCheck('open-files', checkTimeoutMs, (add) => checkOpenFiles(settings, replica, add)));
    await show(
      await runCheck('message', checkTimeoutMs, async (add) => {
        const { db, current } = database;
        const { inspector } = nats;
        if (options.message === false) add(skipped('message', 'No message was sent, as --no-message asks'));
        else if (replica === undefined)
          add(skipped('message', 'There is no running server to send one through'));
        else if (db === undefined || !current) add(skipped('message', 'The database cannot be used'));
        else if (inspector === undefined) add(skipped('message', 'NATS cannot be used'));
        else await checkRoundTrip(settings, { db, inspector, signal: options.signal }, add);
      }),
    );
  } finally {
    await Promise.allSettled([nats.inspector?.close(), database.db?.close()]);
  }
}

function toJson({ check, status, detail, action }: Finding): Record<string, string | null> {
  return { check, status, detail, action: action ?? null };
}
