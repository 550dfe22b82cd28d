/** A keyword that can ask for what is not done here: the values that can be kept, and what to do with another. */
interface Demand {
  /** Lower case. */
  readonly kept: readonly string[];
  readonly instead: string;
}

const verifyInstead = 'Leave it out; sslmode=verify-full proves which server answers, and encrypts';

/**
 * Keywords of other clients of PostgreSQL that can demand what this program does not do, above all for security. To
 * ignore such a demand would be to connect in a way that its author ruled out.
 *
 * @see https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS
 */
const demands: Readonly<Record<string, Demand>> = {
  channel_binding: { kept: ['disable', 'prefer'], instead: verifyInstead },
  gssencmode: { kept: ['disable', 'prefer'], instead: verifyInstead },
  require_auth: {
    kept: [],
    instead:
      'Leave it out; pg_hba.conf sets the method, and sslmode=verify-full proves which server asks for it',
  },
  requirepeer: {
    kept: [],
    instead: 'Leave it out, and name a socket directory in which only the user of PostgreSQL can write',
  },
  sslcrl: { kept: [], instead: 'Leave it out; revoked certificates of servers are not looked up' },
  sslcrldir: { kept: [], instead: 'Leave it out; revoked certificates of servers are not looked up' },
  sslcertmode: {
    kept: ['allow', 'disable'],
    instead:
      'Leave it out; the certificate of sslcert is sent when the server asks, as clientcert in pg_hba.conf does',
  },
  sslnegotiation: {
    kept: ['postgres'],
    instead: 'Leave it out; TLS is asked for as PostgreSQL servers of every version expect it',
  },
  sslsni: { kept: ['1'], instead: 'Leave it out; the name of the host is always sent' },
  target_session_attrs: {
    kept: ['any', 'prefer-standby'],
    instead: 'Leave it out, and give an address that leads to the server that takes writes',
  },
  min_protocol_version: { kept: ['3.0'], instead: 'Leave it out; version 3.0 is spoken' },
};

/**
 * What to do about a demand that cannot be kept, as a sentence; undefined when the keyword makes none. An empty value
 * is none, as in libpq.
 *
 * @param keyword in lower case.
 */
export function describeUnkept(keyword: string, value: string): string | undefined {
  const demand = Object.hasOwn(demands, keyword) ? demands[keyword] : undefined;
  if (demand === undefined || value === '' || demand.kept.includes(value.toLowerCase())) return undefined;
  const { kept, instead } = demand;
  return kept.length === 0 ? instead : `${instead}. It can also be ${kept.join(' or ')}`;
}

export function isDemand(keyword: string): boolean {
  return Object.hasOwn(demands, keyword);
}
