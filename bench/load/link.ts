import { connect, type Socket } from 'node:net';

/** One client's connection to a broker. */
export interface Link {
  readonly socket: Socket;
  /** Resolves with the return code of CONNACK; -1 when the connection ended before. */
  readonly accepted: Promise<number>;
}

/** Receives what follows CONNACK; the bytes are only valid during the call. */
export type OnBytes = (bytes: Uint8Array, from: number, to: number) => void;

// Bytes are handled before the call returns, so all sockets of the process can share one buffer.
const readBuffer = Buffer.alloc(65_536);

/** Connects and sends CONNECT at once. */
export function openLink(port: number, connectPacket: Buffer, onBytes: OnBytes, onClose: () => void): Link {
  let settle: ((code: number) => void) | undefined;
  const accepted = new Promise<number>((resolve) => {
    settle = resolve;
  });
  // CONNACK of MQTT 5 is longer, of less than 128 bytes here.
  const connack = new Uint8Array(2 + 0x7f);
  let connackBytes = 4;
  let filled = 0;
  const socket = connect({
    host: '127.0.0.1',
    port,
    noDelay: true,
    onread: {
      buffer: readBuffer,
      callback(length, bytes) {
        let from = 0;
        while (filled < connackBytes && from < length) {
          connack[filled] = bytes[from] as number;
          filled += 1;
          from += 1;
          if (filled === 2) connackBytes = Math.min(2 + (connack[1] as number), connack.length);
          if (filled === connackBytes) {
            settle?.(connack[0] === 0x20 ? (connack[3] as number) : -1);
            settle = undefined;
          }
        }
        if (from < length) onBytes(bytes, from, length);
        return true;
      },
    },
  });
  socket.on('error', () => {});
  socket.on('close', () => {
    settle?.(-1);
    settle = undefined;
    onClose();
  });
  socket.write(connectPacket);
  return { socket, accepted };
}
