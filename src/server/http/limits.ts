/** What the HTTP API allows a peer. Times in milliseconds, sizes in bytes. */
export interface HttpLimits {
  /** Open connections; at it new ones are closed at once, and so are those on which nothing is asked. */
  readonly maxConnections: number;
  /** Open connections of one address, of IPv6 one /64; at it new ones of it are closed at once. */
  readonly maxConnectionsPerAddress: number;
  /** A request body; over it 413. */
  readonly maxBodyBytes: number;
  /** The body of an import of devices; over it 413. */
  readonly maxBulkBytes: number;
  /** Imports and exports of devices under way; at it further ones are answered 429. */
  readonly maxBulkRequests: number;
  /** The path with its query; over it 414. */
  readonly maxUrlBytes: number;
  /** Request line and header fields together; over it 431. */
  readonly maxHeaderBytes: number;
  /** From the first byte, or from the connection when none comes, to the end of the header; over it 408. */
  readonly headersTimeoutMs: number;
  /** From the first byte to the end of the body; over it 408. */
  readonly requestTimeoutMs: number;
  /** A connection between two requests; over it the connection is closed. */
  readonly keepAliveTimeoutMs: number;
  /** A connection on which nothing moves, a response not being read among them; over it it is closed. */
  readonly inactivityTimeoutMs: number;
  /** How often the two request timeouts are looked at, and so how late they may act. */
  readonly timeoutCheckMs: number;
  /** The answer of one readiness check; over it the replica counts as not ready. */
  readonly readinessTimeoutMs: number;
  /** Lists of connections that wait for their turn; over it 429. */
  readonly maxWaitingLists: number;
  /** Streams of events; at it further ones are answered 429. */
  readonly maxEventStreams: number;
  /** Those of one caller: a key, API_TOKEN, or all that comes without a key while none is required; at it 429. */
  readonly maxEventStreamsPerCaller: number;
  /** What waits to be read by one stream of events; over it the stream is cut off. */
  readonly maxEventStreamBytes: number;
  /** Between two heartbeats of a stream of events; less than what proxies take for a dead connection. */
  readonly eventHeartbeatMs: number;
  /** Requests under way at `close()`; over it they are cut off. */
  readonly closeTimeoutMs: number;
}

export const defaultHttpLimits: HttpLimits = {
  maxConnections: 1_024,
  maxConnectionsPerAddress: 512,
  maxBodyBytes: 16_384,
  maxBulkBytes: 1_048_576,
  maxBulkRequests: 2,
  maxUrlBytes: 4_096,
  maxHeaderBytes: 16_384,
  headersTimeoutMs: 10_000,
  requestTimeoutMs: 15_000,
  // Longer than the idle time of common load balancers, which must be the ones to end an idle connection:
  // otherwise a request that they send at that moment is lost.
  keepAliveTimeoutMs: 65_000,
  inactivityTimeoutMs: 120_000,
  timeoutCheckMs: 1_000,
  readinessTimeoutMs: 3_000,
  maxWaitingLists: 16,
  maxEventStreams: 64,
  maxEventStreamsPerCaller: 16,
  maxEventStreamBytes: 1_048_576,
  eventHeartbeatMs: 15_000,
  closeTimeoutMs: 5_000,
};
