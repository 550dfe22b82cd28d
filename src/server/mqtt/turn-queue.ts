/** Something to be called once at the end of a turn of the event loop. */
export interface TurnMember {
  queued: boolean;
  onTurn(): void;
}

/** Gathers what happens in one turn of the event loop, so that each connection writes its acknowledgements once. */
export interface TurnQueue {
  add(member: TurnMember): void;
}

export function openTurnQueue(): TurnQueue {
  let members: TurnMember[] = [];

  function run(): void {
    const due = members;
    members = [];
    for (const member of due) {
      member.queued = false;
      member.onTurn();
    }
  }

  return {
    add(member) {
      if (member.queued) return;
      member.queued = true;
      if (members.push(member) === 1) setImmediate(run);
    },
  };
}
