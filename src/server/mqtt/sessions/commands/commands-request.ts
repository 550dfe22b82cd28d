import type { Calls } from '../../../forward/commands/calls.js';
import type { Downlink, DownlinkClaim } from '../../../forward/commands/downlink.js';

/**
 * A SUBSCRIBE waits so long for NATS and is then refused: longer than it takes to give up a silent server (8 s) and to find
 * another one of its cluster.
 */
const subscribeWithinMs = 10_000;
/** CONNACK of a client that goes on with a session waits so long, and is then sent all the same. */
const resumeWithinMs = 1_000;

/** A client's request that NATS sends the commands of its device here, before the client is told that it does. */
export class CommandsRequest {
  private readonly downlink: Downlink;
  private readonly calls: Calls;
  private uncall: (() => void) | undefined;
  private readonly waiter: { onRoom(): void };
  private claim: DownlinkClaim | undefined;
  private timer: NodeJS.Timeout | undefined;
  private late = false;
  /** `performance.now()` when it was made. */
  sinceMs = 0;

  /** @param waiter is called when there is an answer, or no more time for one. */
  constructor(downlink: Downlink, calls: Calls, waiter: { onRoom(): void }) {
    this.downlink = downlink;
    this.calls = calls;
    this.waiter = waiter;
  }

  get isMade(): boolean {
    return this.claim !== undefined;
  }

  /** There is an answer, or no more time for one. */
  get isAnswered(): boolean {
    return this.claim?.answer !== undefined || this.late;
  }

  /** Why NATS does not send them; undefined when it does, or was not asked. */
  get problem(): string | undefined {
    const answer = this.claim?.answer;
    if (this.claim === undefined || answer === 'held') return undefined;
    if (answer !== undefined) return `NATS refuses it: ${answer.refused}`;
    return this.downlink.reachable ? 'NATS did not answer in time' : 'NATS is away';
  }

  make(deviceId: string): void {
    // What NATS answers to the claim it answers to this too.
    this.uncall = this.calls.claim(deviceId);
    this.claim = this.downlink.claim(deviceId, () => this.waiter.onRoom());
    if (this.isAnswered) return;
    this.sinceMs = performance.now();
    this.timer = setTimeout(() => {
      this.late = true;
      this.waiter.onRoom();
    }, subscribeWithinMs);
    this.timer.unref();
  }

  /** Takes it back. What the client's session claims meanwhile is the session's own. */
  end(): void {
    clearTimeout(this.timer);
    this.claim?.release();
    this.uncall?.();
    this.claim = undefined;
    this.late = false;
  }
}

/**
 * Waits until NATS has answered for a device whose client goes on with a session. While NATS is away or silent the session
 * goes on all the same, as that of a client that stayed does: its commands come when NATS is back.
 *
 * @returns false when NATS refuses.
 */
export async function awaitCommands(downlink: Downlink, deviceId: string): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  let claim: DownlinkClaim | undefined;
  try {
    await new Promise<void>((resolve) => {
      claim = downlink.claim(deviceId, resolve);
      if (claim.answer !== undefined || !downlink.reachable) resolve();
      timer = setTimeout(resolve, resumeWithinMs);
      timer.unref();
    });
    return claim?.answer === undefined || claim.answer === 'held';
  } finally {
    clearTimeout(timer);
    claim?.release();
  }
}
