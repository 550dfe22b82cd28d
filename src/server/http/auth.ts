import type { IncomingHttpHeaders } from 'node:http';
import { isIP } from 'node:net';
import type { Config } from '../../config.js';
import { includesRole, type Role } from '../../db/api-keys.js';
import type { ErrorCode } from '../../errors.js';

export type { Role } from '../../db/api-keys.js';

/** Who may use the API. With a token or a key in existence `apiAllowUnauthenticated` changes nothing. */
export type AccessSettings = Pick<
  Config,
  'apiToken' | 'apiAllowUnauthenticated' | 'apiHosts' | 'apiRequestsPerSecond'
>;

/** What is known of a request before its body is read. */
export interface AccessRequest {
  /** The address of the peer's socket, never one named in a header. */
  readonly remoteAddress: string | undefined;
  readonly headers: IncomingHttpHeaders;
}

/**
 * What a route asks for. `public`: nothing, so that a probe needs no key. `documentation`: what holds for the
 * address only, since a browser cannot send a key for a page and the pages hold nothing but what the source
 * shows. `protected`: all rules, and the role that the route names.
 */
export type AccessLevel = 'public' | 'documentation' | 'protected';

/** Why a request is not answered. `challenge` is the value of WWW-Authenticate (RFC 6750). */
export interface AccessRefusal {
  readonly code: Extract<
    ErrorCode,
    'UNAUTHENTICATED' | 'ORIGIN_REFUSED' | 'FORBIDDEN' | 'TOO_MANY_REQUESTS' | 'DATABASE_UNREACHABLE'
  >;
  readonly detail: string;
  /** What to do, where the detail does not say so. */
  readonly suggestion?: string;
  readonly challenge?: string;
  readonly retryAfterSec?: number;
}

/** The scheme of WWW-Authenticate. */
export const realm = 'Bearer realm="svc-mqtt"';

/**
 * Checks whether a role is enough for what a route needs; undefined: any is.
 *
 * @param ownNeed the role that is enough for what the caller has made itself.
 */
export function checkRole(
  caller: { readonly role: Role; readonly actor: { readonly name: string } },
  need: Role | undefined,
  ownNeed?: Role | undefined,
): AccessRefusal | undefined {
  if (need === undefined || includesRole(caller.role, need)) return undefined;
  if (ownNeed !== undefined && includesRole(caller.role, ownNeed)) return undefined;
  return {
    code: 'FORBIDDEN',
    detail: `This needs the role ${need}, and the key "${caller.actor.name}" has the role ${caller.role}`,
    suggestion: `Use a key with the role ${need}`,
    challenge: `${realm}, error="insufficient_scope", scope="${need}"`,
  };
}

/**
 * Checks whether a request may be answered while there is neither a token nor a key: only what certainly comes from
 * this machine, unless everyone is let in, and never at the wish of a foreign web page.
 */
export function checkOpenAccess(
  settings: AccessSettings,
  level: AccessLevel,
  request: AccessRequest,
): AccessRefusal | undefined {
  if (level === 'public') return undefined;
  const refusal = settings.apiAllowUnauthenticated
    ? checkHost(settings, request.headers.host)
    : checkLocal(settings, request);
  if (refusal !== undefined) return refusal;
  return level === 'documentation' ? undefined : checkSite(request.headers);
}

/** Headers by which a proxy says that it forwards for somebody else. */
const proxyHeaders = [
  'forwarded',
  'via',
  'x-forwarded-for',
  'x-forwarded-host',
  'x-forwarded-port',
  'x-forwarded-prefix',
  'x-forwarded-proto',
  'x-forwarded-server',
  'x-real-ip',
  'x-client-ip',
  'x-cluster-client-ip',
  'x-original-forwarded-for',
  'x-original-host',
  'x-envoy-external-address',
  'x-amzn-trace-id',
  'x-arr-log-id',
  'x-azure-clientip',
  'cf-connecting-ip',
  'cf-ray',
  'cdn-loop',
  'fastly-client-ip',
  'fly-client-ip',
  'true-client-ip',
] as const;

function checkLocal(settings: AccessSettings, request: AccessRequest): AccessRefusal | undefined {
  const remedy =
    'set API_TOKEN or make a key (svc-mqtt api-key create), or set API_ALLOW_UNAUTHENTICATED=true to open it to everyone';
  const refuse = (rule: string): AccessRefusal => ({
    code: 'UNAUTHENTICATED',
    detail: `Without API_TOKEN and keys the API answers ${rule}; ${remedy}`,
    challenge: realm,
  });
  const { remoteAddress = 'an unknown address' } = request;
  if (!isLoopback(request.remoteAddress))
    return refuse(`loopback addresses only, and this request comes from ${remoteAddress}`);
  const proxy = proxyHeaders.find((name) => request.headers[name] !== undefined);
  if (proxy !== undefined)
    return refuse(
      `this machine only, and the header ${proxy} says that a proxy forwards this request for somebody else`,
    );
  return checkHost(settings, request.headers.host);
}

/**
 * A name of a foreign site that resolves to this machine (DNS rebinding) makes the API same-origin with that site, for
 * which a browser then reads every answer. So the API answers to names only that nobody else can own.
 */
function checkHost(settings: AccessSettings, host: string | undefined): AccessRefusal | undefined {
  if (isLocalHost(host) || isListedHost(settings.apiHosts, host)) return undefined;
  // Public names have a dot. One without is a service of a container network or a machine of a local one.
  if (settings.apiAllowUnauthenticated && isSingleLabel(host)) return undefined;
  return {
    code: 'ORIGIN_REFUSED',
    detail: `Without API_TOKEN and keys the API answers as localhost, by IP address, or by a name in API_HOSTS only, not as "${host ?? ''}"; add the name to API_HOSTS, or set API_TOKEN or make a key (svc-mqtt api-key create)`,
  };
}

function isListedHost(list: string | undefined, host: string | undefined): boolean {
  const name = nameOf(host ?? '');
  return name !== '' && (list ?? '').split(',').some((each) => each.trim().toLowerCase() === name);
}

/** Whether a Host header is a name without a dot, which no public site can have. */
function isSingleLabel(host: string | undefined): boolean {
  return /^[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?$/.test(nameOf(host ?? ''));
}

/** The name in a Host header, without the port. */
function nameOf(host: string): string {
  return host.replace(/:\d*$/, '').toLowerCase();
}

/** Whether an address, as a socket reports it, is one of this machine's loopback addresses. */
export function isLoopback(address: string | undefined): boolean {
  return address !== undefined && (address === '::1' || /^(::ffff:)?127\.\d+\.\d+\.\d+$/i.test(address));
}

/** Whether a Host header cannot be a foreign site's name. A request without one comes from no browser. */
export function isLocalHost(host: string | undefined): boolean {
  if (host === undefined) return true;
  const name = nameOf(host);
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
      'Without API_TOKEN and keys the API does not answer web pages of other sites; call it from a program, or set API_TOKEN',
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
