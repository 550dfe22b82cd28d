/** How far a device is with a command; what one of its sessions says counts for the device in this order. */
export const commandStates = [
  'acknowledged',
  'sent',
  'queued',
  'unknown',
  'refused',
  'expired',
  'unclaimed',
] as const;
export type CommandState = (typeof commandStates)[number];

/** How far a session of it is. */
export const sessionCommandStates = [
  'acknowledged',
  'sent',
  'queued',
  'unknown',
  'refused',
  'expired',
] as const;

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
