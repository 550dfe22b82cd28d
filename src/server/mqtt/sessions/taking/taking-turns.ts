/** Who is to have a turn. */
export interface TurnRequest {
  /** The longest that its turn takes, ms. */
  readonly withinMs: number;
  /** The connection still waits for it. */
  isWanted(): boolean;
  /** It waits for its turn, or no longer: meanwhile its client's time does not pass. */
  onWait(waits: boolean): void;
}

export interface Turn {
  /** Resolves with itself when the time of the turn is over. */
  readonly late: Promise<'late'>;
  readonly isLate: boolean;
  /** @param answered the store has answered: those who wait may hope. */
  end(answered: boolean): void;
}

/** Those of a crowd that comes back at once have their sessions sooner, one with the other, when few are asked for at a time. */
const maxUnderWay = 512;
const sweepMs = 250;
/** The longest that a turn takes, and that somebody waits for one while the store answers nobody. */
const maxTurnSweeps = 5_000 / sweepMs;
/** The longest that somebody waits: few clients have more patience. */
const maxWaitSweeps = 60_000 / sweepMs;

/**
 * Opens the queue of those who take a session. Time is counted in sweeps: while this process is held up, and hears nothing of the
 * store, none passes.
 */
export function openTakingTurns() {
  const underWay = new Map<Turn, { left: number; giveUp(): void }>();
  const waiting = new Map<TurnRequest, { waited: number; resolve(turn: Turn | undefined): void }>();
  /** Since the store has answered. */
  let silent = 0;
  let sweeper: NodeJS.Timeout | undefined;

  function sweep(): void {
    silent += 1;
    for (const each of underWay.values()) {
      each.left -= 1;
      if (each.left < 0) each.giveUp();
    }
    for (const [request, each] of waiting) {
      each.waited += 1;
      const isSilent = silent > maxTurnSweeps && each.waited > maxTurnSweeps;
      if (isSilent || each.waited > maxWaitSweeps || !request.isWanted()) release(request, undefined);
    }
    if (underWay.size + waiting.size > 0) return;
    clearInterval(sweeper);
    sweeper = undefined;
    silent = 0;
  }

  function open(request: TurnRequest): Turn {
    let giveUp = () => {};
    const turn = {
      late: new Promise<'late'>((resolve) => {
        giveUp = () => {
          turn.isLate = true;
          resolve('late');
        };
      }),
      isLate: false,
      end(answered: boolean) {
        underWay.delete(turn);
        if (answered) silent = 0;
        pump();
      },
    };
    const left = Math.min(maxTurnSweeps, Math.ceil(request.withinMs / sweepMs));
    underWay.set(turn, { left, giveUp });
    sweeper ??= setInterval(sweep, sweepMs).unref();
    return turn;
  }

  function release(request: TurnRequest, turn: Turn | undefined): void {
    const found = waiting.get(request);
    waiting.delete(request);
    request.onWait(false);
    found?.resolve(turn);
  }

  function pump(): void {
    for (const request of waiting.keys()) {
      if (underWay.size >= maxUnderWay) return;
      release(request, request.isWanted() ? open(request) : undefined);
    }
  }

  return {
    /** A turn at once; undefined: as many as may have theirs, or others wait. */
    begin: (request: TurnRequest): Turn | undefined =>
      underWay.size >= maxUnderWay || waiting.size > 0 ? undefined : open(request),
    /** @returns undefined: the store has not answered for long, or the connection has ended. */
    wait: (request: TurnRequest): Promise<Turn | undefined> =>
      new Promise((resolve) => {
        request.onWait(true);
        waiting.set(request, { waited: 0, resolve });
      }),
  };
}
