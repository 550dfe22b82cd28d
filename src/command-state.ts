/** How far a session is with a command; what one of them says counts for its device in this order. */
export const sessionCommandStates = [
  'acknowledged',
  'sent',
  'queued',
  'unknown',
  'refused',
  'expired',
] as const;

/** How far a device is. */
export const commandStates = [...sessionCommandStates, 'unclaimed'] as const;
export type CommandState = (typeof commandStates)[number];

export interface SessionProgress {
  readonly state: (typeof sessionCommandStates)[number];
  /** QoS with which its client gets it. */
  readonly qos: 0 | 1;
}

/** The same of a client. */
export interface ClientProgress extends SessionProgress {
  readonly client: string;
  readonly connected: boolean;
}

/** What the furthest of a device's sessions says. */
export function sumOf(states: readonly CommandState[]): CommandState {
  return commandStates.find((state) => states.includes(state)) ?? 'unclaimed';
}
