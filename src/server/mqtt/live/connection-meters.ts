import type { Connection } from '../connection.js';

/** What is worked out for one connection while somebody watches. */
interface Meter {
  /** Messages and time of the last sample. */
  messages: number;
  atMs: number;
  /** Messages a second; undefined before the second sample. */
  rate: number | undefined;
  /** Lower-case text that filters look in; undefined until one does. */
  searchText: string | undefined;
}

/** Rates and search texts of connections. Both cost time and memory, so there are none while nobody watches. */
export interface ConnectionMeters {
  /** Somebody watches, now. */
  watch(): void;
  /** Messages a second; undefined until it was watched for a second. */
  rateOf(connection: Connection): number | undefined;
  searchTextOf(connection: Connection): string;
  /** Takes a sample when it is time for one; to be called about once a second. */
  onTick(nowMs: number): void;
}

/** Who asked within this time watches. */
const watchMs = 10_000;
const sampleMs = 900;
/** Bursts and pauses of about so long are evened out. */
const smoothingMs = 2_000;

export function openConnectionMeters(connections: ReadonlySet<Connection>): ConnectionMeters {
  const meters = new Map<Connection, Meter>();
  let watchedUntilMs = 0;
  let sampledAtMs = 0;

  function meterOf(connection: Connection): Meter {
    let meter = meters.get(connection);
    if (meter === undefined) {
      meter = {
        messages: countOf(connection),
        atMs: performance.now(),
        rate: undefined,
        searchText: undefined,
      };
      meters.set(connection, meter);
    }
    return meter;
  }

  return {
    watch() {
      watchedUntilMs = performance.now() + watchMs;
    },
    rateOf: (connection) => meterOf(connection).rate,
    searchTextOf(connection) {
      const meter = meterOf(connection);
      meter.searchText ??= describe(connection);
      return meter.searchText;
    },
    onTick(nowMs) {
      if (nowMs > watchedUntilMs) {
        meters.clear();
        return;
      }
      if (nowMs - sampledAtMs < sampleMs) return;
      sampledAtMs = nowMs;
      for (const connection of meters.keys()) if (!connections.has(connection)) meters.delete(connection);
      for (const connection of connections)
        if (connection.isConnected) sample(meterOf(connection), connection, nowMs);
    },
  };
}

function sample(meter: Meter, connection: Connection, nowMs: number): void {
  const passedMs = nowMs - meter.atMs;
  if (passedMs < sampleMs) return;
  const messages = countOf(connection);
  const rate = ((messages - meter.messages) * 1_000) / passedMs;
  const weight = meter.rate === undefined ? 1 : 1 - Math.exp(-passedMs / smoothingMs);
  const before = meter.rate ?? 0;
  const smoothed = before + (rate - before) * weight;
  meter.rate = smoothed < 0.005 ? 0 : smoothed;
  meter.messages = messages;
  meter.atMs = nowMs;
}

export function countOf({ received }: Connection): number {
  return received[0] + received[1] + received[2];
}

function describe({ device, clientId, socket, accepted, protocol }: Connection): string {
  return [device?.id, device?.type, clientId, socket.address, accepted.transport, protocol]
    .join('\n')
    .toLowerCase();
}
