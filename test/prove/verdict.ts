import type { StoredMessage } from '../support/load.js';

/** What a client has sent and what it was told. */
export interface Told {
  readonly clientId: string;
  readonly deviceId: string;
  readonly qos: 1 | 2;
  /** Numbers whose PUBACK or PUBREC came. */
  readonly acknowledged: ReadonlySet<number>;
}

export interface Verdict {
  readonly acknowledged: number;
  readonly stored: number;
  /** Acknowledged and not in the stream, as `<client id> <number>`. */
  readonly lost: readonly string[];
  /** In the stream more than once, each repetition counted. QoS 1 may be. */
  readonly doubled: { readonly qos1: number; readonly qos2: number };
  /** Whose first appearance is behind that of a later message of its client. */
  readonly reordered: readonly string[];
  /** Under a subject that is not the client's device's. */
  readonly astray: readonly string[];
}

/**
 * Compares what clients were told with what the stream has.
 *
 * @param stored the stream in order; messages `<client id> <number>` of other clients are passed over.
 */
export function judge(clients: readonly Told[], stored: readonly StoredMessage[]): Verdict {
  const doubled = { qos1: 0, qos2: 0 };
  const reordered: string[] = [];
  const astray: string[] = [];
  const known = new Map(
    clients.map((client) => [client.clientId, { client, seen: new Set<number>(), highest: -1 }]),
  );
  for (const { subject, payload } of stored) {
    const [clientId = '', text = ''] = payload.trimEnd().split(' ');
    const entry = known.get(clientId);
    if (entry === undefined) continue;
    const number = Number(text);
    if (subject !== `raw.${entry.client.deviceId}`) astray.push(`${payload.trimEnd()} on ${subject}`);
    if (entry.seen.has(number)) {
      if (entry.client.qos === 1) doubled.qos1 += 1;
      else doubled.qos2 += 1;
      continue;
    }
    if (number < entry.highest) reordered.push(`${clientId} ${number}`);
    entry.highest = Math.max(entry.highest, number);
    entry.seen.add(number);
  }
  const all = [...known.values()];
  return {
    acknowledged: all.reduce((sum, { client }) => sum + client.acknowledged.size, 0),
    stored: all.reduce((sum, { seen }) => sum + seen.size, 0),
    lost: all.flatMap(({ client, seen }) =>
      [...client.acknowledged]
        .filter((number) => !seen.has(number))
        .map((number) => `${client.clientId} ${number}`),
    ),
    doubled,
    reordered,
    astray,
  };
}
