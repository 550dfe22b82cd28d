import { createHash, timingSafeEqual } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import { isIP } from 'node:net';
import type { ErrorCode } from '../../errors.js';

/** Who may use the API. With a token, `allowUnauthenticated` changes nothing. */
export interface AccessSettings {
  readonly apiToken: string | undefined;
  readonly apiAllowUnauthenticated: boolean;
}

/** What is known of a request before its body is read. */
export interface AccessRequest {
  /** The address of the peer's socket, never one named in a header. */
  readonly remoteAddress: string | undefined;
  readonly headers: IncomingHttpHeaders;
}

/**
 * What a route asks for. `public`: nothing, so that a probe needs no token. `documentation`: what holds for the
 * address only, since a browser cannot send a token for a page and the pages hold nothing but what the source
 * shows. `protected`: all rules.
 */
export type AccessLevel = 'public' | 'documentation' | 'protected';

/** What a key may do: look; also add devices; everything. */
export type Role = 'viewer' | 'provisioner' | 'operator';

/** Why a request is not answered. `challenge` is the value of WWW-Authenticate. */
export interface AccessRefusal {
  readonly code: Extract<ErrorCode, 'UNAUTHENTICATED' | 'ORIGIN_REFUSED'>;
  readonly detail: string;
  readonly challenge?: string;
}

const realm = 'Bearer realm="svc-mqtt"';

/**
 * Checks whether a request may be answered. With a token: it must be shown. Without one: only what certainly
 * comes from this machine, and not at the wish of a foreign web page.
 */
export function checkAccess(
  settings: AccessSettings,
  level: AccessLevel,
  request: AccessRequest,
): AccessRefusal | undefined {
  if (level === 'public') return undefined;
  if (settings.apiToken !== undefined) {
    return level === 'documentation'
      ? undefined
      : checkToken(settings.apiToken, request.headers.authorization);
  }
  if (!settings.apiAllowUnauthenticated) {
    const refusal = checkLocal(request);
    if (refusal !== undefined) return refusal;
  }
  return level === 'documentation' ? undefined : checkSite(request.headers);
}

function checkToken(expected: string, header: string | undefined): AccessRefusal | undefined {
  const given = /^Bearer +(\S+) *$/i.exec(header ?? '')?.[1];
  if (given === undefined) {
    return {
      code: 'UNAUTHENTICATED',
      detail: 'The API requires a token: send the header "Authorization: Bearer <API_TOKEN>"',
      challenge: realm,
    };
  }
  // Digests have one length, so the comparison takes the same time whatever was given.
  if (timingSafeEqual(digest(given), digest(expected))) return undefined;
  return {
    code: 'UNAUTHENTICATED',
    detail: 'The token is not the one in API_TOKEN',
    challenge: `${realm}, error="invalid_token"`,
  };
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}

/** Headers by which a proxy says that it forwards for somebody else. */
const proxyHeaders = ['forwarded', 'x-forwarded-for', 'x-real-ip'] as const;

function checkLocal(request: AccessRequest): AccessRefusal | undefined {
  const remedy = 'set API_TOKEN, or API_ALLOW_UNAUTHENTICATED=true to open it to everyone';
  if (!isLoopback(request.remoteAddress)) {
    return {
      code: 'UNAUTHENTICATED',
      detail: `Without API_TOKEN the API answers loopback addresses only, and this request comes from ${request.remoteAddress ?? 'an unknown address'}; ${remedy}`,
      challenge: realm,
    };
  }
  const proxy = proxyHeaders.find((name) => request.headers[name] !== undefined);
  if (proxy !== undefined) {
    return {
      code: 'UNAUTHENTICATED',
      detail: `Without API_TOKEN the API answers this machine only, and the header ${proxy} says that a proxy forwards this request for somebody else; ${remedy}`,
      challenge: realm,
    };
  }
  // A name of a foreign site that resolves to 127.0.0.1 (DNS rebinding) makes the API same-origin with that site.
  if (!isLocalHost(request.headers.host)) {
    return {
      code: 'ORIGIN_REFUSED',
      detail: `Without API_TOKEN the API answers as localhost or by IP address only, not as "${request.headers.host ?? ''}"; ${remedy}`,
    };
  }
  return undefined;
}

/** Whether an address, as a socket reports it, is one of this machine's loopback addresses. */
export function isLoopback(address: string | undefined): boolean {
  return address !== undefined && (address === '::1' || /^(::ffff:)?127\.\d+\.\d+\.\d+$/i.test(address));
}

/** Whether a Host header cannot be a foreign site's name. A request without one comes from no browser. */
export function isLocalHost(host: string | undefined): boolean {
  if (host === undefined) return true;
  const name = host.replace(/:\d*$/, '').toLowerCase();
  const bracketed = /^\[(.*)\]$/.exec(name)?.[1];
  if (bracketed !== undefined) return isIP(bracketed) === 6;
  return isIP(name) === 4 || /^([a-z0-9-]+\.)*localhost\.?$/.test(name);
}

/**
 * Refuses what a page of another site makes a browser send. The body is read as JSON whatever its content type,
 * so that no preflight request stands in the way of such a page. Sec-Fetch-Site is the browser's own word on the
 * matter; browsers leave it out on plain HTTP to other machines, where Origin is compared with Host.
 */
function checkSite(headers: IncomingHttpHeaders): AccessRefusal | undefined {
  const site = headers['sec-fetch-site'];
  const own =
    site === undefined
      ? isOwnOrigin(headers.origin, headers.host)
      : site === 'same-origin' || site === 'none';
  if (own) return undefined;
  return {
    code: 'ORIGIN_REFUSED',
    detail:
      'Without API_TOKEN the API does not answer web pages of other sites; call it from a program, or set API_TOKEN',
  };
}

/** Whether Origin, if there is one, is the site that Host names. */
export function isOwnOrigin(origin: string | undefined, host: string | undefined): boolean {
  if (origin === undefined) return true;
  if (host === undefined || !URL.canParse(origin)) return false;
  const { protocol, host: originHost } = new URL(origin);
  const own = `${protocol}//${host}`;
  return originHost !== '' && URL.canParse(own) && new URL(own).host === originHost;
}
