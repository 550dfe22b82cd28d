/**
 * Reads NotificationResponse messages out of what a PostgreSQL backend sends, in chunks of any size, and passes
 * over everything else without copying it.
 *
 * @returns a function that takes the next chunk.
 * @see https://www.postgresql.org/docs/current/protocol-message-formats.html
 */
export function startNotificationScanner(
  onNotification: (channel: string, payload: string) => void,
): (chunk: Uint8Array) => void {
  const notificationType = 0x41;
  /** Type and length of the message under way, as far as they have arrived. */
  const header = Buffer.alloc(5);
  let headerBytes = 0;
  /** Bytes of the message's body still to come. */
  let remaining = 0;
  let body: Buffer[] = [];
  return (chunk) => {
    let at = 0;
    while (at < chunk.length) {
      if (headerBytes < 5) {
        header[headerBytes] = chunk[at] ?? 0;
        headerBytes += 1;
        at += 1;
        if (headerBytes < 5) continue;
        remaining = Math.max(0, header.readInt32BE(1) - 4);
      }
      const taken = Math.min(remaining, chunk.length - at);
      if (header[0] === notificationType) body.push(Buffer.from(chunk.subarray(at, at + taken)));
      at += taken;
      remaining -= taken;
      if (remaining > 0) continue;
      if (header[0] === notificationType) {
        // Process id, channel and payload, the strings ended by a zero byte.
        const [channel = '', payload = ''] = Buffer.concat(body).subarray(4).toString('utf8').split('\0');
        body = [];
        onNotification(channel, payload);
      }
      headerBytes = 0;
    }
  };
}
