/** What is worked out for one connection while somebody watches. */
export interface ConnectionMeter {
  /** Messages and time of the last sample. */
  messages: number;
  atMs: number;
  /** Messages a second; undefined before the second sample. */
  rate: number | undefined;
  /** Lower-case text that filters look in; undefined until one does. */
  searchText: string | undefined;
}

/** What a connection is measured and described by. */
interface Metered {
  readonly isConnected: boolean;
  readonly received: readonly [number, number, number];
  readonly device: { readonly id: string; readonly type: string } | undefined;
  readonly clientId: string;
  readonly socket: { readonly address: string };
  readonly accepted: { readonly transport: string };
  readonly protocol: string;
  meter: ConnectionMeter | undefined;
}

export type ConnectionMeters = ReturnType<typeof openConnectionMeters>;

/** Who asked within this time watches. */
const watchMs = 10_000;
const sampleMs = 900;
/** Bursts and pauses of about so long are evened out. */
const smoothingMs = 2_000;

/** Rates and search texts of connections. Both cost time and memory, so there are none while nobody watches. */
export function openConnectionMeters(connections: Iterable<Metered>) {
  let watchedUntilMs = 0;
  /** Somebody has watched since all was forgotten. */
  let wasWatched = false;
  let sampledAtMs = 0;
  let samples = 0;

  function meterOf(connection: Metered): ConnectionMeter {
    connection.meter ??= {
      messages: countOf(connection),
      atMs: performance.now(),
      rate: undefined,
      searchText: undefined,
    };
    return connection.meter;
  }

  const meters = {
    /** Somebody watches, now. */
    watch(): void {
      watchedUntilMs = performance.now() + watchMs;
      wasWatched = true;
    },
    /** Called when nobody watches any more. */
    onForgotten: (): void => {},
    /** Samples taken since the start: between two no rate changes. */
    get samples() {
      return samples;
    },
    /** Messages a second; undefined until it was watched for a second. */
    rateOf: (connection: Metered): number | undefined => meterOf(connection).rate,
    searchTextOf(connection: Metered): string {
      const meter = meterOf(connection);
      meter.searchText ??= describe(connection);
      return meter.searchText;
    },
    /** Takes a sample when it is time for one; to be called about once a second. */
    onTick(nowMs: number): void {
      if (nowMs > watchedUntilMs) {
        if (wasWatched) {
          for (const connection of connections) connection.meter = undefined;
          meters.onForgotten();
        }
        wasWatched = false;
        return;
      }
      if (nowMs - sampledAtMs < sampleMs) return;
      sampledAtMs = nowMs;
      samples += 1;
      for (const connection of connections)
        if (connection.isConnected) sample(meterOf(connection), connection, nowMs);
    },
  };
  return meters;
}

function sample(meter: ConnectionMeter, connection: Metered, nowMs: number): void {
  const passedMs = nowMs - meter.atMs;
  if (passedMs < sampleMs) return;
  const messages = countOf(connection);
  // Most of a large fleet are silent most of the time.
  if (messages === meter.messages && meter.rate === 0) {
    meter.atMs = nowMs;
    return;
  }
  const rate = ((messages - meter.messages) * 1_000) / passedMs;
  const weight = meter.rate === undefined ? 1 : 1 - Math.exp(-passedMs / smoothingMs);
  const before = meter.rate ?? 0;
  const smoothed = before + (rate - before) * weight;
  meter.rate = smoothed < 0.005 ? 0 : smoothed;
  meter.messages = messages;
  meter.atMs = nowMs;
}

export function countOf({ received }: Metered): number {
  return received[0] + received[1] + received[2];
}

function describe({ device, clientId, socket, accepted, protocol }: Metered): string {
  return [device?.id, device?.type, clientId, socket.address, accepted.transport, protocol]
    .join('\n')
    .toLowerCase();
}
