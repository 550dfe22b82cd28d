import {
  checkDeviceId,
  checkDeviceType,
  checkMetadata,
  checkMetadataKey,
  checkTime,
  type Metadata,
  parseTime,
} from '../../db/devices/device-fields.js';
import type { DeviceRow } from '../../db/devices/device-insert.js';
import { generateId, generateSecret, hashSecret, newSalt } from '../../db/secrets.js';
import type { ImportRecord } from './import-records.js';

/** A row that can be stored. `secret` is there when it, or the id that belongs to it, was generated here. */
export interface ImportRow extends DeviceRow {
  readonly line: number;
  readonly secret?: string | undefined;
}

/** Why a row cannot be stored. */
export interface RefusedRow {
  readonly line: number;
  /** As a message names it: `column 2 (type)`, `field type`. */
  readonly column: string;
  readonly problem: string;
  /** The row's id, if it has one. */
  readonly id: string;
}

export interface RowRules {
  /** The rows carry salts and hashes, not secrets. */
  readonly hashed: boolean;
  /** There is a file for ids and secrets that are generated. */
  readonly generates: boolean;
}

export const commonColumns = [
  'id',
  'type',
  'metadata',
  'created_at',
  'expires_at',
  'revoked_at',
  'last_seen_at',
];
/** `mqtt_password` is another name of `secret`, and `mqtt_user` of `id`: files of credentials have them. */
const plainColumns = ['secret', 'mqtt_user', 'mqtt_password'];
const previousColumns = ['previous_secret_salt', 'previous_secret_hash', 'previous_secret_until'];
const hashedColumns = ['secret_salt', 'secret_hash', ...previousColumns, 'previous_secret_until_used'];

/** The columns of a row, for messages and help; and `metadata.<key>` beside them. */
export function columnsOf(hashed: boolean): readonly string[] {
  return [...commonColumns, ...(hashed ? hashedColumns : plainColumns)];
}

/** What is wrong with a column of this name, or undefined. */
export function checkColumn(name: string, hashed: boolean): string | undefined {
  if (columnsOf(hashed).includes(name)) return undefined;
  if (name.startsWith('metadata.')) {
    const problem = checkMetadataKey(name.slice('metadata.'.length));
    return problem === undefined ? undefined : `has a key that ${problem}`;
  }
  if ((hashed ? plainColumns : hashedColumns).includes(name)) {
    return hashed ? 'is not taken with --hashed' : 'is taken only with --hashed';
  }
  return `is not a known column; known are ${columnsOf(hashed).join(', ')} and metadata.<key>`;
}

/** A fault of one column. */
class Fault extends Error {
  readonly column: string;
  readonly problem: string;

  constructor(column: string, problem: string) {
    super(problem);
    this.column = column;
    this.problem = problem;
  }
}

/** Makes a device of a record, or says what is wrong with it. */
export function readRow(record: ImportRecord, rules: RowRules): ImportRow | RefusedRow {
  const refuse = (column: string, problem: string) => {
    const id = record.values.get('id');
    return { line: record.line, column, problem, id: typeof id === 'string' ? id.slice(0, 128) : '' };
  };
  if (record.problem !== undefined) return refuse(record.problem.column, record.problem.problem);
  try {
    const type = readText(record, 'type') ?? '';
    requireNone('type', checkDeviceType(type));
    return {
      line: record.line,
      type,
      metadata: readMetadata(record),
      createdAt: readTime(record, 'created_at'),
      expiresAt: readTime(record, 'expires_at'),
      revokedAt: readTime(record, 'revoked_at'),
      lastSeenAt: readTime(record, 'last_seen_at'),
      ...(rules.hashed ? readHashed(record) : readPlain(record, rules)),
    };
  } catch (error) {
    if (error instanceof Fault) return refuse(record.nameOf(error.column), error.problem);
    throw error;
  }
}

export function isRefused(row: ImportRow | RefusedRow): row is RefusedRow {
  return 'problem' in row;
}

function requireNone(column: string, problem: string | undefined): void {
  if (problem !== undefined) throw new Fault(column, problem);
}

/** The text of a column; undefined when it is missing or empty. */
function readText({ values }: ImportRecord, column: string): string | undefined {
  const value = values.get(column) ?? '';
  if (typeof value !== 'string') throw new Fault(column, 'must be a string');
  return value === '' ? undefined : value;
}

function readTime(record: ImportRecord, column: string): Date | undefined {
  const text = readText(record, column);
  if (text === undefined) return undefined;
  const time = parseTime(text);
  if (time === undefined || checkTime(time) !== undefined) {
    throw new Fault(column, 'must be a time with its offset from UTC, such as 2027-01-31T12:00:00Z');
  }
  return time;
}

/** Metadata of the column `metadata`, as a JSON object, and of the columns `metadata.<key>`. */
function readMetadata({ values }: ImportRecord): Metadata {
  const entries = new Map<string, string>();
  let whole: unknown = values.get('metadata') ?? '';
  if (typeof whole === 'string' && whole !== '') {
    try {
      whole = JSON.parse(whole) as unknown;
    } catch {
      throw new Fault('metadata', 'must be a JSON object');
    }
  }
  if (whole !== '') {
    if (typeof whole !== 'object' || whole === null || Array.isArray(whole)) {
      throw new Fault('metadata', 'must be a JSON object');
    }
    for (const [key, value] of Object.entries(whole)) {
      if (typeof value !== 'string') throw new Fault('metadata', 'must have strings for values');
      entries.set(key, value);
    }
  }
  for (const [column, value] of values) {
    if (!column.startsWith('metadata.') || value === '' || value === null) continue;
    if (typeof value !== 'string') throw new Fault(column, 'must be a string');
    entries.set(column.slice('metadata.'.length), value);
  }
  const metadata = Object.fromEntries(entries);
  const fault = checkMetadata(metadata);
  if (fault !== undefined) {
    const column = values.has(fault.field) ? fault.field : 'metadata';
    throw new Fault(column, fault.field === column ? fault.problem : `${fault.field} ${fault.problem}`);
  }
  return metadata;
}

function readId(record: ImportRecord): string | undefined {
  const id = readText(record, 'id');
  if (id !== undefined) requireNone('id', checkDeviceId(id));
  return id;
}

function readPlain(record: ImportRecord, rules: RowRules) {
  const id = readId(record);
  const user = readText(record, 'mqtt_user');
  if (user !== undefined && user !== id) throw new Fault('mqtt_user', 'must be the id, or empty');
  const secretColumn = record.values.has('secret') ? 'secret' : 'mqtt_password';
  const given = readText(record, secretColumn);
  if (secretColumn === 'secret' && readText(record, 'mqtt_password') !== undefined) {
    throw new Fault('mqtt_password', 'must be empty where there is a secret column: it is the same');
  }
  if (given !== undefined) requireNone(secretColumn, checkGivenSecret(given));
  if ((id === undefined || given === undefined) && !rules.generates) {
    const missing = id === undefined ? 'id' : record.values.has(secretColumn) ? secretColumn : 'secret';
    throw new Fault(missing, 'is missing; with --output <file> it is generated and written there');
  }
  if (given === undefined) {
    const { secret, hash, salt, ...made } = generateSecret(id ?? generateId());
    return { ...made, secretHash: hash, secretSalt: salt, secret };
  }
  const salt = newSalt();
  const secretHash = hashSecret(salt, Buffer.from(given, 'utf8'));
  return {
    id: id ?? generateId(),
    secretHash,
    secretSalt: salt,
    secret: id === undefined ? given : undefined,
  };
}

/**
 * Checks a secret that another gateway has generated: what is hashed fast must be random. Nobody can tell from one
 * secret how it was made, but what people think of has spaces, is short or repeats itself.
 *
 * @returns what is wrong, or undefined.
 */
export function checkGivenSecret(secret: string): string | undefined {
  if (secret.length > 256) return 'must not be longer than 256 characters';
  if (!/^[A-Za-z0-9+/=_.~-]+$/.test(secret)) return 'may contain only letters, digits and + / = _ . ~ -';
  const alphabet = /^\d+$/.test(secret)
    ? 10
    : /^[0-9a-f]+$|^[0-9A-F]+$/.test(secret)
      ? 16
      : /^[a-z0-9]+$|^[A-Z0-9]+$/.test(secret)
        ? 32
        : 64;
  if (secret.replace(/=+$/, '').length * Math.log2(alphabet) >= 128 && new Set(secret).size >= 8)
    return undefined;
  return 'must be generated, of at least 128 bits: 32 hexadecimal digits, or 22 characters of base64';
}

function readHashed(record: ImportRecord) {
  const id = readId(record);
  if (id === undefined) throw new Fault('id', 'must not be empty');
  const secret = readSecret(record, 'secret_hash', 'secret_salt');
  if (secret === undefined) throw new Fault('secret_hash', 'must not be empty');
  const previous = readSecret(record, 'previous_secret_hash', 'previous_secret_salt');
  const until = readTime(record, 'previous_secret_until');
  if (previous !== undefined && until === undefined) {
    throw new Fault('previous_secret_until', 'must not be empty where there is a previous secret');
  }
  const used = record.values.get('previous_secret_until_used') ?? '';
  if (!['', 'true', 'false', true, false].includes(used as string | boolean)) {
    throw new Fault('previous_secret_until_used', 'must be true or false');
  }
  return {
    id,
    secretHash: secret.hash,
    secretSalt: secret.salt,
    previousSecret:
      previous === undefined || until === undefined
        ? undefined
        : { ...previous, untilMs: until.getTime(), untilUsed: String(used) === 'true' },
  };
}

/**
 * Reads a hash and its salt, both in hexadecimal or both in base64, of the common or the URL's alphabet. The length of
 * the hash, 32 bytes, tells which.
 */
function readSecret(
  record: ImportRecord,
  hashColumn: string,
  saltColumn: string,
): { hash: Buffer; salt: Buffer } | undefined {
  const hashText = readText(record, hashColumn);
  const saltText = readText(record, saltColumn);
  if (hashText === undefined && saltText === undefined) return undefined;
  if (hashText === undefined) throw new Fault(hashColumn, 'must not be empty beside its salt');
  if (saltText === undefined) throw new Fault(saltColumn, 'must not be empty beside its hash');
  const encoding = /^[0-9a-f]{64}$/i.test(hashText) ? 'hex' : 'base64';
  if (encoding === 'base64' && !/^[A-Za-z0-9+/_-]{43}=?$/.test(hashText)) {
    throw new Fault(hashColumn, 'must be 32 bytes in hexadecimal or base64: SHA-256 of salt and secret');
  }
  const form = encoding === 'hex' ? /^([0-9a-f]{2})+$/i : /^[A-Za-z0-9+/_-]+={0,2}$/;
  const salt = Buffer.from(saltText, encoding);
  if (!form.test(saltText) || salt.length < 16 || salt.length > 64) {
    const name = encoding === 'hex' ? 'hexadecimal' : 'base64';
    throw new Fault(saltColumn, `must be 16 to 64 bytes in ${name}, as its hash is`);
  }
  return { hash: Buffer.from(hashText, encoding), salt };
}
