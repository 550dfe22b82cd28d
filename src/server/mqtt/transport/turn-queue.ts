/** Something to be called once at the end of a turn of the event loop. */
export interface TurnMember {
  queued: boolean;
  onTurn(): void;
}

/** Gathers what happens in one turn of the event loop, so that each connection writes its acknowledgements once. */
export interface TurnQueue {
  add(member: TurnMember): void;
  /** The time of this turn, `performance.now()`: read once a turn, since reading it for every message costs. */
  nowMs(): number;
}

export function openTurnQueue(): TurnQueue {
  let members: TurnMember[] = [];
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

  return {
    add(member) {
      if (member.queued) return;
      member.queued = true;
      members.push(member);
      schedule();
    },
    nowMs() {
      schedule();
      return turnMs;
    },
  };
}
