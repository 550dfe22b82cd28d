import type { Static } from 'typebox';
import type * as schema from './session-schema.js';

/** A session that outlives its connection. Times are wall-clock milliseconds. */
export interface SessionSummary {
  /** The same on every replica. */
  readonly id: string;
  readonly deviceId: string;
  readonly clientId: string;
  /** What is stored of it, or why that cannot be read. */
  readonly stored:
    | {
        readonly connected: boolean;
        readonly awaySinceMs: number | undefined;
        /** Seconds that it outlives the connection; infinite: it does not expire. */
        readonly expirySec: number;
        readonly subscriptions: readonly { readonly filter: string; readonly qos: number }[];
        readonly unacknowledged: number;
        /** Commands and messages between devices that wait for it; undefined: neither are stored. */
        readonly pending: number | undefined;
        /** When the first of them was stored; undefined: none waits, or it is not known. */
        readonly oldestPendingMs: number | undefined;
      }
    | string;
}

export type SessionJson = Static<typeof schema.SessionResponse>;
export type SessionPageJson = Static<typeof schema.SessionPageResponse>;

export function toSessionJson({ id, deviceId, clientId, stored }: SessionSummary): SessionJson {
  const names = { id, device: deviceId, client: clientId };
  if (typeof stored === 'string') {
    const unknown = { connected: false, away_since: null, expires_at: null, expiry_seconds: null };
    return {
      ...names,
      ...unknown,
      subscriptions: [],
      unacknowledged: 0,
      pending: null,
      oldest_pending_at: null,
      problem: stored,
    };
  }
  const { connected, awaySinceMs, expirySec, subscriptions, unacknowledged, pending, oldestPendingMs } =
    stored;
  const expires = Number.isFinite(expirySec);
  return {
    ...names,
    connected,
    away_since: toTime(awaySinceMs),
    expires_at: toTime(awaySinceMs !== undefined && expires ? awaySinceMs + expirySec * 1_000 : undefined),
    expiry_seconds: expires ? expirySec : null,
    subscriptions: subscriptions.map(({ filter, qos }) => ({ filter, qos })),
    unacknowledged,
    pending: pending ?? null,
    oldest_pending_at: toTime(oldestPendingMs),
    problem: null,
  };
}

function toTime(ms: number | undefined): string | null {
  return ms === undefined ? null : new Date(ms).toISOString();
}
