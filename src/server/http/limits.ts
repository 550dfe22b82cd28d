/** What the HTTP API allows a peer. Times in milliseconds, sizes in bytes. */
export const defaultHttpLimits = {
  /** Open connections; at it new ones are closed at once, and so are those on which nothing is asked. */
  maxConnections: 1_024,
  /** Open connections of one address, of IPv6 one /64; at it new ones of it are closed at once. */
  maxConnectionsPerAddress: 512,
  /** A request body; over it 413. */
  maxBodyBytes: 16_384,
  /** The body of an import of devices; over it 413. */
  maxBulkBytes: 1_048_576,
  /** Imports and exports of devices under way; at it further ones are answered 429. */
  maxBulkRequests: 2,
  /** The path with its query; over it 414. */
  maxUrlBytes: 4_096,
  /** Request line and header fields together; over it 431. */
  maxHeaderBytes: 16_384,
  /** From the first byte, or from the connection when none comes, to the end of the header; over it 408. */
  headersTimeoutMs: 10_000,
  /** From the first byte to the end of the body; over it 408. */
  requestTimeoutMs: 15_000,
  /**
   * A connection between two requests; over it the connection is closed. Longer than the idle time of common load balancers,
   * which must be the ones to end an idle connection: otherwise a request that they send at that moment is lost.
   */
  keepAliveTimeoutMs: 65_000,
  /** A connection on which nothing moves, a response not being read among them; over it it is closed. */
  inactivityTimeoutMs: 120_000,
  /** How often the two request timeouts are looked at, and so how late they may act. */
  timeoutCheckMs: 1_000,
  /** The answer of one readiness check; over it the replica counts as not ready. */
  readinessTimeoutMs: 3_000,
  /** Lists of connections that wait for their turn; over it 429. */
  maxWaitingLists: 16,
  /** Streams of events; at it further ones are answered 429. */
  maxEventStreams: 64,
  /** Those of one caller: a key, API_TOKEN, or all that comes without a key while none is required; at it 429. */
  maxEventStreamsPerCaller: 16,
  /** What waits to be read by one stream of events; over it the stream is cut off. */
  maxEventStreamBytes: 1_048_576,
  /** Between two heartbeats of a stream of events; less than what proxies take for a dead connection. */
  eventHeartbeatMs: 15_000,
  /** Requests under way at `close()`; over it they are cut off. */
  closeTimeoutMs: 5_000,
};

export type HttpLimits = Readonly<typeof defaultHttpLimits>;
