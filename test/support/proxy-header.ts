const signature = Buffer.from('0d0a0d0a000d0a515549540a', 'hex');

/** A PROXY protocol header of version 2, right unless parts are given that make it wrong. */
export function binaryProxyHeader(options: {
  /** 4 or 16 bytes. */
  source: Uint8Array;
  port: number;
  version?: number;
  /** 0: LOCAL, 1: PROXY. */
  command?: number;
  family?: number;
  /** Bytes behind the addresses. */
  added?: Uint8Array;
  /** Overrides the length of all behind the fixed part. */
  length?: number;
}): Buffer {
  const { source, version = 2, command = 1, added = Buffer.alloc(0) } = options;
  const ports = Buffer.alloc(4);
  ports.writeUInt16BE(options.port, 0);
  ports.writeUInt16BE(1_883, 2);
  const rest = Buffer.concat([source, Buffer.alloc(source.length), ports, added]);
  const fixed = Buffer.alloc(4);
  fixed[0] = (version << 4) | command;
  fixed[1] = options.family ?? (source.length === 4 ? 0x11 : 0x21);
  fixed.writeUInt16BE(options.length ?? rest.length, 2);
  return Buffer.concat([signature, fixed, rest]);
}
