/** What a publisher receives after CONNACK, called once for each packet. */
export interface OnAcknowledgement {
  puback(packetId: number): void;
  pubrec(packetId: number): void;
  pubcomp(packetId: number): void;
  pingresp(): void;
  /** A byte that begins no packet a publisher may receive. */
  unexpected(first: number): void;
}

/** Cuts PUBACK, PUBREC, PUBCOMP and PINGRESP out of a stream that may be cut anywhere; allocates nothing. */
export function openAcknowledgementReader(on: OnAcknowledgement) {
  const carry = new Uint8Array(4);
  let carried = 0;

  function take(first: number, packetId: number): void {
    if (first === 0x40) on.puback(packetId);
    else if (first === 0x50) on.pubrec(packetId);
    else if (first === 0x70) on.pubcomp(packetId);
    else on.unexpected(first);
  }

  return (bytes: Uint8Array, from: number, to: number): void => {
    let at = from;
    while (carried > 0 && at < to) {
      carry[carried] = bytes[at] as number;
      carried += 1;
      at += 1;
      if (carry[0] === 0xd0) {
        carried = 0;
        on.pingresp();
      } else if (carried === 4) {
        carried = 0;
        take(carry[0] as number, ((carry[2] as number) << 8) | (carry[3] as number));
      }
    }
    while (at < to) {
      const first = bytes[at] as number;
      if (first === 0xd0 && at + 2 <= to) {
        on.pingresp();
        at += 2;
      } else if (at + 4 <= to && first !== 0xd0) {
        take(first, ((bytes[at + 2] as number) << 8) | (bytes[at + 3] as number));
        at += 4;
      } else {
        for (; at < to; at += 1) {
          carry[carried] = bytes[at] as number;
          carried += 1;
        }
      }
    }
  };
}
