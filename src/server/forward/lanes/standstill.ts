/** JetStream's codes for a server without resources left. */
const spaceCodes = ['10023 ', '10047 '];
/** Nothing is said of a standstill shorter than this: the next answer may be a confirmation. */
const standstillMs = 1_000;

/** Nothing is stored. */
export interface Standstill {
  /** Of the first failure after the last message that was stored, ms since 1970. */
  readonly sinceMs: number;
  /** For everybody: without the subjects that messages go to, which name devices. */
  readonly reason: string;
  /** The server has no space for more. */
  readonly outOfSpace?: boolean;
  /** The server neither confirms nor refuses. */
  readonly silent?: boolean;
}

/** Why a lane holds: the latest of its failures. */
export interface Failure {
  readonly cause: string;
  readonly detail: string;
  readonly subject: Uint8Array;
  /** `performance.now()` of the first one since the lane was open. */
  readonly sinceMs: number;
  readonly witness: Witness;
  /** The first one since the last message was stored, of whatever lane. */
  readonly quiet: {
    /** How many messages were stored by then. */
    readonly stored: number;
    /** `performance.now()`. */
    readonly atMs: number;
    /** The same, ms since 1970. */
    readonly sinceMs: number;
  };
}

/**
 * What a failure says of the stream. Alone: the message goes to NATS_SUBJECT, and what NATS said, or that it said nothing, is not
 * about where it goes. Together: it may be about its subject, or about the stream of a policy; the same of two clients is no
 * chance. Not at all: no stream takes the subject of a policy, say.
 */
type Witness = 'alone' | 'together' | 'none';

/** What NATS says of a subject; JetStream says it of a limit in words. */
const causesOfSubjects = new Set(['no_stream', 'stream_unusable', 'publish_denied']);

function readWitness(cause: string, batchable: boolean): Witness {
  const ofSubject = causesOfSubjects.has(cause) || cause.includes('per subject');
  if (batchable) return ofSubject ? 'together' : 'alone';
  return ofSubject ? 'none' : 'together';
}

/**
 * @param before the failure of the lane before, since it was open.
 * @param stored messages stored so far, of all lanes.
 */
export function nextFailure(
  before: Failure | undefined,
  failed: {
    message: { readonly subject: Uint8Array; readonly batchable: boolean };
    cause: string;
    detail: string;
    stored: number;
    nowMs: number;
  },
): Failure {
  const { message, cause, detail, stored, nowMs } = failed;
  return {
    cause,
    detail,
    subject: message.subject,
    sinceMs: before?.sinceMs ?? nowMs,
    witness: readWitness(cause, message.batchable),
    quiet: before?.quiet.stored === stored ? before.quiet : { stored, atMs: nowMs, sinceMs: Date.now() },
  };
}

/**
 * Whether nothing is stored for anybody, as far as failures tell. One of a single client is enough when it is about the stream. Else
 * there have to be two clients of whom each has failed only since the last message was stored: what failed before, while
 * others' messages were stored, is that client's own matter.
 *
 * @param failures of the lanes that hold.
 * @param stored messages stored so far.
 */
export function findStandstill(
  failures: Iterable<Failure | undefined>,
  stored: number,
  nowMs: number,
): Standstill | undefined {
  let witnesses = 0;
  let alone = false;
  let first: Failure | undefined;
  let outOfSpace = false;
  let silent = true;
  for (const failure of failures) {
    if (failure === undefined || failure.witness === 'none' || failure.quiet.stored !== stored) continue;
    if (failure.witness === 'together' && failure.quiet.atMs !== failure.sinceMs) continue;
    witnesses += 1;
    alone ||= failure.witness === 'alone';
    if (first === undefined || failure.quiet.atMs < first.quiet.atMs) first = failure;
    silent &&= failure.cause === 'timeout';
    outOfSpace ||= spaceCodes.some((code) => failure.cause.startsWith(code));
  }
  if (first === undefined || !(alone || witnesses > 1) || nowMs - first.quiet.atMs < standstillMs)
    return undefined;
  return {
    sinceMs: first.quiet.sinceMs,
    reason: first.cause === 'publish_denied' ? 'NATS does not let the user publish' : first.detail,
    outOfSpace,
    // Policies' own subjects, which nobody may confirm, say nothing of the stream.
    silent: alone && silent,
  };
}
