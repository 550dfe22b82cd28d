/** Something to be called once at the end of a turn of the event loop. */
export interface TurnMember {
  queued: boolean;
  onTurn(): void;
}

/** Something that has just begun, and waits for what comes right behind its beginning. */
export interface Newcomer {
  onArrived(): void;
}

export type TurnQueue = ReturnType<typeof openTurnQueue>;

/** Gathers what happens in one turn of the event loop, so that each connection writes its acknowledgements once. */
export function openTurnQueue() {
  let members: TurnMember[] = [];
  let newcomers: Newcomer[] = [];
  let scheduled = false;
  let turnMs = 0;

  function schedule(): void {
    if (scheduled) return;
    scheduled = true;
    turnMs = performance.now();
    setImmediate(run);
  }

  function run(): void {
    const due = members;
    members = [];
    scheduled = false;
    for (const member of due) {
      member.queued = false;
      member.onTurn();
    }
  }

  /** The first comes at the end of this turn, the second behind what the next one has read. */
  function awaitNextTurn(): void {
    const due = newcomers;
    newcomers = [];
    setImmediate(() => {
      for (const newcomer of due) newcomer.onArrived();
    });
  }

  return {
    /** Calls `onArrived` behind what the next turn has read. */
    addNewcomer(newcomer: Newcomer): void {
      if (newcomers.push(newcomer) === 1) setImmediate(awaitNextTurn);
    },
    add(member: TurnMember): void {
      if (member.queued) return;
      member.queued = true;
      members.push(member);
      schedule();
    },
    /** The time of this turn, `performance.now()`: read once a turn, since reading it for every message costs. */
    nowMs(): number {
      schedule();
      return turnMs;
    },
  };
}
