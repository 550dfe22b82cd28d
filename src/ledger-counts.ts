/** How many messages of a device were what. */
export interface LedgerCounts {
  received: number;
  stored: number;
  refused: number;
  /** Commands and other messages that the device has taken: sent with QoS 0, else acknowledged. */
  delivered: number;
}

export const noCounts: Readonly<LedgerCounts> = { received: 0, stored: 0, refused: 0, delivered: 0 };
