import type { ApiKeyCredentials } from '../../db/api-keys.js';
import { messageOf } from '../../errors.js';
import type { Log } from '../../log.js';

/** What the directory asks of the database; see the namesakes in `src/db/api-keys.ts`. */
export interface KeyQueries {
  load(id: string): Promise<ApiKeyCredentials | undefined>;
  /** Whether a key was ever made. */
  exist(): Promise<boolean>;
  markUsed(id: string): Promise<void>;
}

/** `away`: the database does not answer, and the key was not seen within the last minute. */
export type KeyLookUp =
  | { readonly found: 'yes'; readonly key: ApiKeyCredentials }
  | { readonly found: 'no' }
  | { readonly found: 'away' };

/** The server's view of the API keys: at most a second old, or a minute while the database is away. */
export interface KeyDirectory {
  find(id: string): Promise<KeyLookUp>;
  /** Has the database asked again at the next look-up. */
  forget(id: string): void;
  /** What is remembered of a key, without asking the database. */
  peek(id: string): ApiKeyCredentials | undefined;
  /**
   * Whether keys exist, so that one is required; the last answer while the database is away.
   *
   * @throws SvcMqttError DATABASE_* when there was no answer yet.
   */
  exist(): Promise<boolean>;
  /** Notes that a key was used; written to the database at most once a minute. */
  used(id: string): void;
}

export interface KeyTimes {
  /** For so long the database is not asked again. */
  readonly freshMs: number;
  /** For so long a key is known while the database is away. */
  readonly keepMs: number;
  /** What is remembered answers when the database, which is asked all the same, has not after so long. */
  readonly patienceMs: number;
  /** For so long the database is not asked again after it did not answer. */
  readonly pauseMs: number;
  readonly usedEveryMs: number;
}

export const defaultKeyTimes: KeyTimes = {
  freshMs: 1_000,
  keepMs: 60_000,
  patienceMs: 1_000,
  pauseMs: 500,
  // A little more than the minute that the database insists on, so that no write is in vain.
  usedEveryMs: 62_000,
};

/** Most keys remembered; at it the one used longest ago is forgotten. */
const maxKeys = 10_000;
/** Most questions to the database at a time; at it the database counts as away. */
const maxAsking = 32;

interface Entry {
  readonly key: ApiKeyCredentials;
  /** When the database was asked. */
  readonly askedAtMs: number;
  usedAtMs: number;
}

/** A question to the database that is under way. */
interface Question<T> {
  readonly answer: Promise<T>;
  readonly askedAtMs: number;
}

/** Opens the directory. It holds nothing that would have to be closed. */
export function openKeyDirectory(
  queries: KeyQueries,
  log: Log,
  times: KeyTimes = defaultKeyTimes,
): KeyDirectory {
  // A Map keeps the order of insertion: to use an entry is to insert it again.
  const entries = new Map<string, Entry>();
  const looking = new Map<string, Question<ApiKeyCredentials | undefined>>();
  let existence: { found: boolean; askedAtMs: number } | undefined;
  let existing: Question<boolean> | undefined;
  let asking = 0;
  let pauseUntilMs = Number.NEGATIVE_INFINITY;

  /** Asks the database, whose queries have a time limit, within the bound on their number. */
  const ask = async <T>(question: () => Promise<T>): Promise<T> => {
    if (asking >= maxAsking) throw new Error('too many look-ups of keys are under way');
    asking += 1;
    try {
      return await question();
    } finally {
      asking -= 1;
    }
  };
  /** The same for what an answer waits for: after a failure there is a pause. */
  const lookUp = async <T>(question: () => Promise<T>): Promise<T> => {
    try {
      return await ask(question);
    } catch (error) {
      pauseUntilMs = performance.now() + times.pauseMs;
      log.debug(
        { event: 'api_key_look_up_failed', reason: messageOf(error) },
        'A key could not be looked up',
      );
      throw error;
    }
  };

  const remember = (id: string, key: ApiKeyCredentials | undefined, askedAtMs: number) => {
    const before = entries.get(id);
    if (before !== undefined && before.askedAtMs > askedAtMs) return;
    entries.delete(id);
    if (key === undefined) return;
    if (entries.size >= maxKeys) {
      for (const oldest of entries.keys()) {
        entries.delete(oldest);
        break;
      }
    }
    entries.set(id, { key, askedAtMs, usedAtMs: before?.usedAtMs ?? Number.NEGATIVE_INFINITY });
  };

  const load = (id: string): Question<ApiKeyCredentials | undefined> => {
    const underWay = looking.get(id);
    if (underWay !== undefined) return underWay;
    const askedAtMs = performance.now();
    const answer = lookUp(async () => {
      const key = await queries.load(id);
      remember(id, key, askedAtMs);
      return key;
    }).finally(() => looking.delete(id));
    const question = { answer, askedAtMs };
    looking.set(id, question);
    return question;
  };

  /** The answer; when there is something remembered to fall back to, only if it comes soon. */
  const settle = async <T>({ answer, askedAtMs }: Question<T>, remembered: boolean): Promise<T> => {
    if (!remembered) return await answer;
    const leftMs = Math.max(0, askedAtMs + times.patienceMs - performance.now());
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_resolve, reject) => {
      timer = setTimeout(() => reject(new Error('the database did not answer soon')), leftMs);
    });
    try {
      return await Promise.race([answer, late]);
    } finally {
      clearTimeout(timer);
    }
  };

  const knownWithin = (id: string, ageMs: number): ApiKeyCredentials | undefined => {
    const entry = entries.get(id);
    return entry !== undefined && performance.now() - entry.askedAtMs < ageMs ? entry.key : undefined;
  };

  return {
    async find(id) {
      const fresh = knownWithin(id, times.freshMs);
      if (fresh !== undefined) return { found: 'yes', key: fresh };
      if (performance.now() >= pauseUntilMs) {
        try {
          const key = await settle(load(id), knownWithin(id, times.keepMs) !== undefined);
          return key === undefined ? { found: 'no' } : { found: 'yes', key };
        } catch {
          // What is remembered answers below.
        }
      }
      const known = knownWithin(id, times.keepMs);
      return known === undefined ? { found: 'away' } : { found: 'yes', key: known };
    },

    forget(id) {
      entries.delete(id);
    },

    peek: (id) => knownWithin(id, times.keepMs),

    async exist() {
      const now = performance.now();
      if (existence !== undefined) {
        if (now - existence.askedAtMs < times.freshMs || now < pauseUntilMs) return existence.found;
      }
      existing ??= {
        askedAtMs: now,
        answer: lookUp(async () => {
          const found = await queries.exist();
          existence = { found, askedAtMs: now };
          return found;
        }).finally(() => {
          existing = undefined;
        }),
      };
      try {
        return await settle(existing, existence !== undefined);
      } catch (error) {
        if (existence === undefined) throw error;
        return existence.found;
      }
    },

    used(id) {
      const entry = entries.get(id);
      if (entry === undefined) return;
      entries.delete(id);
      entries.set(id, entry);
      const now = performance.now();
      if (now - entry.usedAtMs < times.usedEveryMs || now < pauseUntilMs) return;
      entry.usedAtMs = now;
      // A database that takes no changes still answers look-ups.
      ask(() => queries.markUsed(id)).catch(() => {
        entry.usedAtMs = performance.now() - times.usedEveryMs + times.pauseMs;
      });
    },
  };
}
