/** What a publisher receives after CONNACK, called once for each packet. */
export interface OnAcknowledgement {
  puback(packetId: number): void;
  pubrec(packetId: number): void;
  pubcomp(packetId: number): void;
  pingresp(): void;
  /** A byte that begins no packet a publisher may receive. */
  unexpected(first: number): void;
}

/** Cuts PUBACK, PUBREC, PUBCOMP and PINGRESP of less than 128 bytes out of a stream that may be cut anywhere. */
export function openAcknowledgementReader(on: OnAcknowledgement) {
  const carry = new Uint8Array(2 + 0x7f);
  let carried = 0;

  function take(bytes: Uint8Array, at: number): void {
    const first = bytes[at] as number;
    if (first === 0xd0) {
      on.pingresp();
      return;
    }
    const packetId = ((bytes[at + 2] as number) << 8) | (bytes[at + 3] as number);
    // MQTT 5 may say more, a failure from 0x80 on.
    const refused = (bytes[at + 1] as number) > 2 && (bytes[at + 4] as number) >= 0x80;
    if (refused) on.unexpected(first);
    else if (first === 0x40) on.puback(packetId);
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
      if (carried < 2 || carried < 2 + (carry[1] as number)) continue;
      carried = 0;
      take(carry, 0);
    }
    while (at < to) {
      const end = at + 1 < to ? at + 2 + (bytes[at + 1] as number) : to + 1;
      if (end > to) {
        carry.set(bytes.subarray(at, to));
        carried = to - at;
        return;
      }
      take(bytes, at);
      at = end;
    }
  };
}
