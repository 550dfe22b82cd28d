import pg from 'pg';
import { messageOf, SvcMqttError } from '../../errors.js';
import type { Progress } from '../../progress.js';
import { setForSession } from '../connection/session.js';
import { deviceIdPattern } from './device-fields.js';

/**
 * The conversion of the Go service's table `devices (id, device_type, mqtt_user, mqtt_password, created_at)`, made
 * by GORM, with the passwords in plain text.
 *
 * The old table is renamed, the new one made and filled, and the old one dropped, all in the transaction of the
 * migration: PostgreSQL then removes the old table's file, so that no plain text stays behind in dead rows, as it
 * would after an UPDATE or DROP COLUMN. The planner's statistics of the old table, which are samples of its
 * passwords, are cleared after. The passwords never leave the database. Write-ahead log, replicas that lag and
 * backups made before still hold them until they are recycled.
 */

export const legacyTable = 'devices';
const asideTable = 'svc_mqtt_legacy_devices';
/** Each batch reads the whole old table, so a large one is taken in few. */
const leastRowsPerBatch = 10_000;
const mostBatches = 20;
const shownProblems = 5;
const clearingLockTimeoutMs = 3_000;

/** Why the old table cannot be converted, and what to do about it. */
export interface LegacyProblem {
  readonly problem: string;
  readonly advice: string;
}

/** The columns that are converted, or say nothing that is wanted, and the kind of type that each needs. */
const knownColumns = new Map<string, 'text' | 'time' | 'any'>([
  ['id', 'any'],
  ['device_type', 'text'],
  ['mqtt_user', 'text'],
  ['mqtt_password', 'text'],
  ['created_at', 'time'],
  ['updated_at', 'any'],
  ['deleted_at', 'time'],
]);
const requiredColumns = ['id', 'device_type', 'mqtt_user', 'created_at'];

/** How many devices the Go service's table in the search path has; undefined when there is none, or it is converted. */
export async function countLegacyDevices(client: pg.Client): Promise<number | undefined> {
  const columns = await columnsOf(client, legacyTable);
  if (!columns.has('mqtt_password') || columns.has('secret_hash')) return undefined;
  for (const required of requiredColumns) {
    if (!columns.has(required)) {
      throw new SvcMqttError(
        'DATABASE_SCHEMA',
        `The table ${legacyTable} has the column mqtt_password but not ${required}: it is not the Go service's`,
        { suggestion: 'Rename it, or set DATABASE_URL to another database' },
      );
    }
  }
  return await countRows(client, legacyTable);
}

async function countRows(client: pg.Client, table: string): Promise<number> {
  const { rows } = await client.query<{ count: string }>(`select count(*) as count from ${table}`);
  return Number(rows[0]?.count);
}

/** The columns of a table or view, each with the kind of its type. */
async function columnsOf(client: pg.Client, table: string): Promise<Map<string, string>> {
  const { rows } = await client.query<{ name: string; kind: string }>(
    `select attname as name, case when typcategory = 'S' then 'text'
       when typname in ('date', 'timestamp', 'timestamptz') then 'time' else 'other' end as kind
     from pg_attribute join pg_type on pg_type.oid = atttypid
     where attrelid = to_regclass('${table}') and attnum > 0 and not attisdropped order by attnum`,
  );
  return new Map(rows.map((row) => [row.name, row.kind]));
}

/** Says why the old table cannot be converted, naming what is in the way; undefined when it can. */
export async function findLegacyProblem(client: pg.Client): Promise<LegacyProblem | undefined> {
  return (await findProblemOfTable(client)) ?? (await findProblemOfRows(client));
}

async function findProblemOfTable(client: pg.Client): Promise<LegacyProblem | undefined> {
  const { rows } = await client.query<{ is_table: boolean }>(
    `select relkind in ('r', 'p') as is_table from pg_class where oid = to_regclass('${legacyTable}')`,
  );
  if (rows[0]?.is_table !== true) {
    return {
      problem: `${legacyTable} is a view, or a table of another server, and only a table can be converted`,
      advice: 'Give the table behind it that name, or set DATABASE_URL to the database that has it',
    };
  }
  const columns = await columnsOf(client, legacyTable);
  for (const [name, kind] of columns) {
    const wanted = knownColumns.get(name) ?? 'any';
    if (wanted === 'any' || kind === wanted) continue;
    return {
      problem: `The column ${name} of the old table ${legacyTable} is no ${wanted}`,
      advice:
        name === 'deleted_at'
          ? `Make it one, such as with \`alter table ${legacyTable} alter deleted_at drop default, alter deleted_at drop not null, alter deleted_at type timestamptz using to_timestamp(nullif(deleted_at, 0))\` where it holds seconds`
          : `Make it one with \`alter table ${legacyTable} alter ${name} type ${wanted === 'text' ? 'text' : 'timestamptz'} using …\``,
    };
  }
  const others = [...columns.keys()].filter((name) => !knownColumns.has(name));
  if (others.length === 0) return undefined;
  const quoted = others.map((name) => pg.escapeIdentifier(name));
  return {
    problem: `The old table ${legacyTable} has ${others.length === 1 ? 'a column' : 'columns'} that the new one has not, and that would be lost: ${others.map((name) => JSON.stringify(name)).join(', ')}`,
    advice: `Keep what you need, such as with \`create table devices_more as select id, ${quoted.join(', ')} from ${legacyTable}\`, drop them with \`alter table ${legacyTable} ${quoted.map((name) => `drop ${name}`).join(', ')}\` (a device that only such a column kept out is to be revoked afterwards)`,
  };
}

/** What is wrong with a row, in the order in which it is looked for; each is an SQL condition on the old table. */
const problems: readonly { readonly when: string; readonly text: string }[] = [
  { when: 'id is null', text: 'has no id' },
  { when: `id::text !~ '${deviceIdPattern}'`, text: 'has an id that is not safe in a topic' },
  { when: 'mqtt_user is distinct from id::text', text: 'has an mqtt_user that is not its id' },
  { when: `coalesce(mqtt_password, '') = ''`, text: 'has no password' },
  { when: `coalesce(device_type, '') = ''`, text: 'has no device_type' },
  { when: 'length(device_type) > 128', text: 'has a device_type of more than 128 characters' },
  {
    when: String.raw`device_type ~ '[\u0001-\u001f\u007f-\u009f]'`,
    text: 'has control characters in its device_type',
  },
  {
    when: `id in (select id from ${legacyTable} group by id having count(*) > 1)`,
    text: 'has an id that another row has too',
  },
];

/** Says which rows cannot be converted and why, naming a few; undefined when all can. */
async function findProblemOfRows(client: pg.Client): Promise<LegacyProblem | undefined> {
  const cases = problems.map(({ when }, index) => `when ${when} then ${index}`).join(' ');
  const { rows } = await client.query<{ id: string; problem: number; count: string }>(
    `select left(coalesce(id::text, '(null)'), 80) as id, problem, count(*) over () as count
     from (select id, case ${cases} end as problem from ${legacyTable}) as checked
     where problem is not null order by problem, id limit ${shownProblems}`,
  );
  const count = Number(rows[0]?.count ?? 0);
  if (count === 0) return undefined;
  const named = rows.map((row) => `${JSON.stringify(row.id)} ${problems[row.problem]?.text}`).join(', ');
  const more = count > rows.length ? `, and ${count - rows.length} more` : '';
  return {
    problem: `${count} ${count === 1 ? 'row' : 'rows'} of the old table ${legacyTable} cannot be converted: ${named}${more}`,
    advice: 'Correct or delete these rows',
  };
}

/** The refusal to convert. */
export function legacyRefusal({ problem, advice }: LegacyProblem): SvcMqttError {
  return new SvcMqttError('DATABASE_SCHEMA', problem, {
    suggestion: `${advice}, and run svc-mqtt migrate again; nothing was changed`,
  });
}

/** Locks the old table against a Go service that still runs, checks it and every row, and frees its name. */
export async function setLegacyAside(client: pg.Client): Promise<void> {
  // What is no table may not be locked.
  const ofTable = await findProblemOfTable(client);
  if (ofTable !== undefined) throw legacyRefusal(ofTable);
  await client.query(`lock table ${legacyTable} in access exclusive mode`);
  const problem = await findLegacyProblem(client);
  if (problem !== undefined) throw legacyRefusal(problem);
  await client.query(`alter table ${legacyTable} rename to ${asideTable}`);
  // The names of its indexes are wanted for the new table.
  const { rows } = await client.query<{ statement: string }>(
    `select format('alter index %s rename to %I', indexrelid::regclass, 'svc_mqtt_legacy_' || indexrelid) as statement
     from pg_index where indrelid = '${asideTable}'::regclass`,
  );
  for (const { statement } of rows) await client.query(statement);
}

/** Fills the new table from the old one and drops that. */
export async function convertLegacy(
  client: pg.Client,
  report: (progress: Progress) => void,
): Promise<number> {
  const columns = await columnsOf(client, asideTable);
  const total = await countRows(client, asideTable);
  // Go's zero time, of the year 1, says that there is none.
  const timeOf = (column: string) =>
    `case when ${column}::timestamptz >= '0002-01-01Z' then ${column}::timestamptz end`;
  // GORM deletes softly: such a device could not log in any more, which is what revoked means.
  const revokedAt = columns.has('deleted_at') ? timeOf('deleted_at') : 'null::timestamptz';
  const rowsPerBatch = Math.max(leastRowsPerBatch, Math.ceil(total / mostBatches));
  let done = 0;
  let last: string | undefined;
  while (done < total) {
    report({ step: 'converting devices', done, total });
    const { rows } = await client.query<{ count: string; last: string }>(
      `with batch as materialized (
         select id::text as id, device_type::text as type, coalesce(${timeOf('created_at')}, now()) as created_at, ${revokedAt} as revoked_at,
           uuid_send(gen_random_uuid()) as salt, convert_to(mqtt_password, 'UTF8') as password
         from ${asideTable} where $1::text is null or id::text collate "C" > $1
         order by id::text collate "C" limit ${rowsPerBatch}
       ), added as (
         insert into devices (id, type, secret_hash, secret_salt, created_at, updated_at, revoked_at)
         select id, type, sha256(salt || password), salt, created_at, created_at, revoked_at from batch
         returning id
       )
       select count(*) as count, max(id collate "C") as last from added`,
      [last ?? null],
    );
    const count = Number(rows[0]?.count);
    if (count === 0) break;
    done += count;
    last = rows[0]?.last;
  }
  await client.query(`drop table ${asideTable}`);
  await client.query('analyze devices');
  report({ step: 'converting devices', done, total });
  return done;
}

const clearingDue = 'statistics of the old table devices are to be cleared';

/** Notes, in the transaction of the conversion, that `clearStatistics` has to follow it. */
export async function noteStatistics(client: pg.Client, notesTable: string): Promise<void> {
  await client.query(`comment on table ${notesTable} is '${clearingDue}'`);
}

/**
 * Rewrites the table of the planner's statistics when a conversion has left samples of the old passwords in it as
 * dead rows. An interruption or a missing right leaves the note in place, and the next migration tries again.
 */
export async function clearStatistics(
  client: pg.Client,
  notesTable: string,
  report: (progress: Progress) => void,
): Promise<void> {
  const { rows } = await client.query<{ note: string | null }>(
    `select obj_description(to_regclass('${notesTable}'), 'pg_class') as note`,
  );
  if (rows[0]?.note !== clearingDue) return;
  report({ step: 'clearing the statistics of the old table', done: 0, total: 1 });
  try {
    await setForSession(client, 'lock_timeout', String(clearingLockTimeoutMs));
    await client.query('vacuum full pg_catalog.pg_statistic');
    await client.query(`comment on table ${notesTable} is null`);
    report({ step: 'clearing the statistics of the old table', done: 1, total: 1 });
  } catch (error) {
    const step = `the statistics of the old table, with samples of its passwords, could not be cleared (${messageOf(error)}); as a superuser run: vacuum full pg_catalog.pg_statistic`;
    report({ step, done: 0, total: 1 });
  } finally {
    await client.query('reset lock_timeout').catch(() => {});
  }
}
