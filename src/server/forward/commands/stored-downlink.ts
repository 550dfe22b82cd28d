import type { NatsLink } from '../connection/nats-link.js';
import type { CommandStore } from './command-store.js';
import type { Downlink, DownlinkClaim } from './downlink.js';

interface Claim {
  readonly onAnswer: (() => void) | undefined;
  /** A PING behind the claim was answered. */
  ponged: boolean;
  held: boolean;
}

/**
 * The downlink where commands are stored. Whoever claims those of a device asks NATS for nothing: the answer only says that
 * it answers and that the commands of before are known here, so that those from then on can be told from them.
 */
export function openStoredDownlink(link: NatsLink, store: CommandStore): Downlink & { close(): void } {
  const open = new Set<Claim>();
  let gathering: Claim[] = [];
  let rounds: Claim[][] = [];

  function ask(claim: Claim): void {
    gathering.push(claim);
    link.requestPing();
  }

  function answer(): void {
    if (!store.isCaughtUp) return;
    for (const claim of [...open]) {
      if (!claim.ponged || claim.held) continue;
      claim.held = true;
      open.delete(claim);
      claim.onAnswer?.();
    }
  }

  store.onChange(answer);
  link.listen({
    connected() {
      for (const claim of open) ask(claim);
    },
    disconnected() {
      gathering = [];
      rounds = [];
      for (const claim of open) claim.ponged = false;
    },
    pinged() {
      rounds.push(gathering);
      gathering = [];
    },
    ponged() {
      for (const claim of rounds.shift() ?? []) claim.ponged = true;
      answer();
    },
  });

  return {
    deliver: () => {},
    onStored: undefined,
    notStored: undefined,
    store,
    get reachable() {
      return link.open;
    },
    claim(_deviceId, onAnswer): DownlinkClaim {
      const claim: Claim = { onAnswer, ponged: false, held: false };
      open.add(claim);
      if (link.connection !== undefined) ask(claim);
      return {
        get answer() {
          return claim.held ? 'held' : undefined;
        },
        release: () => open.delete(claim),
      };
    },
    close: () => store.close(),
  };
}
