import { createHash, timingSafeEqual } from 'node:crypto';
import type { IncomingHttpHeaders, ServerResponse } from 'node:http';
import { type ApiKeyCredentials, matchesApiKey, parseApiKey } from '../../db/api-keys.js';
import type { Actor } from '../../db/audit.js';
import { type Log, limitLog } from '../../log.js';
import { addressGroup } from '../peer-address.js';
import { createTokenBuckets, type TokenBuckets } from '../token-buckets.js';
import {
  type AccessLevel,
  type AccessRefusal,
  type AccessRequest,
  type AccessSettings,
  checkOpenAccess,
  checkRole,
  type Role,
  realm,
} from './auth.js';
import { holdResponses } from './held-responses.js';
import type { KeyDirectory } from './key-directory.js';

/** Who calls, and what they may do. */
export interface Caller {
  readonly actor: Actor;
  readonly role: Role;
  /** The key that was shown, whose end is the caller's end. */
  readonly keyId?: string;
}

/** Names a caller, whatever is counted of whom: the id of a key, `API_TOKEN`, or `local`. */
export function nameCaller(caller: Caller): string {
  return caller.keyId ?? caller.actor.name;
}

export type Admission = { readonly caller: Caller | undefined } | { readonly refusal: AccessRefusal };

/** Addresses and keys that are remembered. */
const maxRemembered = 10_000;
/** Failed attempts of one address: this many in a row, and then one every six seconds. */
const failures = { capacity: 10, perSecond: 1 / 6, maxKeys: maxRemembered };

/** Who calls without a key while none is required; no key has such an id. */
const local = 'local';

/** Stands before every route. */
export type Gate = ReturnType<typeof openGate>;

export function openGate(options: { settings: AccessSettings; keys: KeyDirectory; log: Log }) {
  const { settings, keys } = options;
  const log = limitLog(options.log);
  const attempts = createTokenBuckets(failures);
  const rate = settings.apiRequestsPerSecond;
  const requests = createTokenBuckets({ capacity: rate, perSecond: rate, maxKeys: maxRemembered });
  const verify = openVerifier({ settings, keys, attempts, log });
  /** Logged once for every time that the first key appears. */
  let required = settings.apiToken !== undefined;

  const isRequired = async () => {
    if (settings.apiToken !== undefined) return true;
    const exist = await keys.exist();
    if (exist && !required) {
      options.log.info(
        { event: 'api_keys_required' },
        'API keys exist: the HTTP API requires one of everybody',
      );
    }
    required = exist;
    return exist;
  };
  /** Whoever shows a key is its holder, also in the moment before it is known that there are keys now. */
  const showsKey = async ({ headers }: AccessRequest) => {
    const key = parseApiKey(readBearer(headers) ?? '');
    if (key === undefined) return false;
    const found = await keys.find(key.id);
    return found.found === 'yes' && isValid(found);
  };
  const held = holdResponses(async (holder) =>
    holder === local ? !(await isRequired()) : isValid(await keys.find(holder)),
  );
  keys.onEnded(() => held.check());

  return {
    /**
     * Decides whether a request may pass.
     *
     * @param need the role that the route asks for; undefined when anyone who is let in may pass.
     * @param ownNeed the role that is enough for what the caller has made itself.
     */
    async admit(
      level: AccessLevel,
      need: Role | undefined,
      request: AccessRequest,
      ownNeed?: Role,
    ): Promise<Admission> {
      if (level === 'public') return { caller: undefined };
      const address = request.remoteAddress;
      if (!(await isRequired()) && !(await showsKey(request))) {
        const refusal = checkOpenAccess(settings, level, request);
        if (refusal !== undefined) return { refusal };
        return { caller: { actor: { kind: local, name: local, address }, role: 'operator' } };
      }
      if (level === 'documentation') return { caller: undefined };
      const verified = await verify(request);
      if ('refusal' in verified) return verified;
      const { caller } = verified;
      const refusal = checkRate(requests, caller, rate) ?? checkRole(caller, need, ownNeed);
      return refusal === undefined ? { caller } : { refusal };
    },
    /**
     * Ends the response when, before it is complete, the caller's key is revoked or expires, or a key becomes required
     * of a caller who showed none.
     */
    hold(caller: Caller, response: ServerResponse): void {
      const holder = caller.actor.kind === local ? local : caller.keyId;
      if (holder !== undefined) held.hold(holder, response);
    },
    /** Closes the directory of keys as well. */
    close(): void {
      log.close();
      held.close();
      keys.close();
    },
  };
}

type Verified = { readonly caller: Caller } | { readonly refusal: AccessRefusal };

/** Makes the check of what a request shows: API_TOKEN, or a key. */
function openVerifier(parts: {
  settings: AccessSettings;
  keys: KeyDirectory;
  attempts: TokenBuckets;
  log: ReturnType<typeof limitLog>;
}): (request: AccessRequest) => Promise<Verified> {
  const { settings, keys, attempts, log } = parts;

  const verifyKey = async (id: string, secret: string, address: string | undefined) => {
    const found = await keys.find(id);
    if (found.found === 'away') return 'away';
    if (found.found === 'no' || !matchesApiKey(found.key, secret)) return 'unknown';
    // Who knows the secret may know what became of the key.
    if (found.key.revoked) return `The key "${found.key.name}" is revoked`;
    if (isExpired(found.key)) return `The key "${found.key.name}" has expired`;
    keys.used(id);
    const actor: Actor = { kind: 'api-key', name: found.key.name, address, keyId: id };
    return { actor, role: found.key.role, keyId: id };
  };

  return async ({ remoteAddress, headers }) => {
    const given = readBearer(headers);
    if (given === undefined) return { refusal: refuseMissing(settings) };
    const key = parseApiKey(given);
    const known = key === undefined ? undefined : keys.peek(key.id);
    // Nobody guesses 160 bits, so the guesses of others at the same address do not shut a known key out.
    const trusted = key !== undefined && known !== undefined && matchesApiKey(known, key.secret);
    const group = addressGroup(remoteAddress);
    // Only a failure takes an attempt: a program may show its key in many requests at once before the first is verified.
    const waitMs = trusted ? 0 : attempts.wait(group);
    if (waitMs > 0) {
      log.warn(
        'api_attempts_limited',
        { remoteAddress },
        'An address failed to log in to the HTTP API too often and has to wait',
      );
      return { refusal: tooMany('Too many failed attempts came from this address', waitMs) };
    }
    const isToken = matchesToken(settings.apiToken, given);
    const outcome = isToken
      ? ({
          actor: { kind: 'api-token', name: 'API_TOKEN', address: remoteAddress },
          role: 'operator',
        } as const)
      : key === undefined
        ? 'unknown'
        : await verifyKey(key.id, key.secret, remoteAddress);
    if (typeof outcome === 'object') return { caller: outcome };
    if (outcome === 'away') {
      const detail = 'The database, which knows the keys, cannot be used at the moment; try again later';
      return { refusal: { code: 'DATABASE_UNREACHABLE', detail } };
    }
    if (!trusted) attempts.take(group);
    const detail = outcome === 'unknown' ? 'The key or token is not valid here' : outcome;
    log.warn(
      'api_attempt_failed',
      { remoteAddress, keyId: key?.id, reason: detail },
      'A request to the HTTP API showed no valid key or token',
    );
    return {
      refusal: { code: 'UNAUTHENTICATED', detail, challenge: `${realm}, error="invalid_token"` },
    };
  };
}

function readBearer(headers: IncomingHttpHeaders): string | undefined {
  return /^Bearer +(\S+) *$/i.exec(headers.authorization ?? '')?.[1];
}

function refuseMissing(settings: AccessSettings): AccessRefusal {
  return {
    code: 'UNAUTHENTICATED',
    detail:
      settings.apiToken === undefined
        ? 'The API requires a key, since keys exist: send the header "Authorization: Bearer <key>"; `svc-mqtt api-key create` makes one'
        : 'The API requires a key or the token: send the header "Authorization: Bearer <key or API_TOKEN>"',
    challenge: realm,
  };
}

function matchesToken(expected: string | undefined, given: string): boolean {
  // Digests have one length, so the comparison takes the same time whatever was given.
  return expected !== undefined && timingSafeEqual(digest(given), digest(expected));
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}

function isExpired(key: ApiKeyCredentials): boolean {
  return key.expiresAt !== null && key.expiresAt.getTime() <= Date.now();
}

/** While the database is away and nothing is known, a response under way is left to its end. */
function isValid(found: Awaited<ReturnType<KeyDirectory['find']>>): boolean {
  if (found.found !== 'yes') return found.found === 'away';
  return !found.key.revoked && !isExpired(found.key);
}

function checkRate(requests: TokenBuckets, caller: Caller, rate: number): AccessRefusal | undefined {
  const waitMs = requests.take(nameCaller(caller));
  if (waitMs === 0) return undefined;
  const whose = caller.keyId === undefined ? 'API_TOKEN' : `The key "${caller.actor.name}"`;
  return tooMany(`${whose} made more than ${rate} requests a second (API_REQUESTS_PER_SECOND)`, waitMs);
}

function tooMany(what: string, waitMs: number): AccessRefusal {
  const retryAfterSec = Math.max(1, Math.ceil(waitMs / 1_000));
  const detail = `${what}; try again in ${retryAfterSec} second${retryAfterSec === 1 ? '' : 's'}`;
  return { code: 'TOO_MANY_REQUESTS', detail, retryAfterSec };
}
