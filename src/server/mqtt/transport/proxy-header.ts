import { isIPv4, isIPv6 } from 'node:net';
import { plainAddress } from '../../peer-address.js';

/** What stands in a PROXY protocol header. */
export interface ProxyHeader {
  /** Bytes of the header; the client's own follow. */
  readonly length: number;
  /** The client; undefined: the proxy speaks for itself (a health check), or does not know. */
  readonly client: { readonly address: string; readonly port: number } | undefined;
}

/** The longest header of version 1, its line end included. */
const maxTextBytes = 107;
/** Most bytes behind the fixed part of version 2: addresses, and what proxies add, as a client's certificate. */
const maxBinaryRest = 4_096;
const textStart = Buffer.from('PROXY ');
const binarySignature = Buffer.from([13, 10, 13, 10, 0, 13, 10, 0x51, 0x55, 0x49, 0x54, 10]);
const binaryFixedBytes = 16;

/**
 * Reads the PROXY protocol header, version 1 or 2, that a stream begins with.
 *
 * @param bytes all that has come so far.
 * @returns `incomplete` when what has come can still become a header.
 * @see https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt
 */
export function readProxyHeader(bytes: Buffer): ProxyHeader | 'incomplete' | 'malformed' {
  if (startsLike(bytes, textStart)) return readText(bytes);
  if (startsLike(bytes, binarySignature)) return readBinary(bytes);
  return 'malformed';
}

/** Whether one of both is the beginning of the other. */
function startsLike(bytes: Buffer, start: Buffer): boolean {
  const length = Math.min(bytes.length, start.length);
  return bytes.subarray(0, length).equals(start.subarray(0, length));
}

function readText(bytes: Buffer): ProxyHeader | 'incomplete' | 'malformed' {
  const end = bytes.subarray(0, maxTextBytes).indexOf('\r\n');
  if (end === -1) return bytes.length < maxTextBytes ? 'incomplete' : 'malformed';
  const length = end + 2;
  const [, family, ...fields] = bytes.toString('latin1', 0, end).split(' ');
  // What follows UNKNOWN is to be ignored.
  if (family === 'UNKNOWN') return { length, client: undefined };
  const isAddress = family === 'TCP4' ? isIPv4 : family === 'TCP6' ? isUnzonedIpv6 : undefined;
  const [source, destination, sourcePort, destinationPort] = fields;
  if (isAddress === undefined || fields.length !== 4) return 'malformed';
  if (!isAddress(source ?? '') || !isAddress(destination ?? '')) return 'malformed';
  const port = readPort(sourcePort ?? '');
  if (port === undefined || readPort(destinationPort ?? '') === undefined) return 'malformed';
  return { length, client: { address: plainAddress(source), port } };
}

function isUnzonedIpv6(text: string): boolean {
  return isIPv6(text) && !text.includes('%');
}

function readPort(text: string): number | undefined {
  return /^(0|[1-9]\d{0,4})$/.test(text) && Number(text) <= 65_535 ? Number(text) : undefined;
}

function readBinary(bytes: Buffer): ProxyHeader | 'incomplete' | 'malformed' {
  if (bytes.length < binaryFixedBytes) return 'incomplete';
  const versionAndCommand = bytes[12] as number;
  const family = bytes[13] as number;
  const rest = bytes.readUInt16BE(14);
  if (versionAndCommand >> 4 !== 2 || rest > maxBinaryRest) return 'malformed';
  const command = versionAndCommand & 0x0f;
  if (command > 1) return 'malformed';
  const length = binaryFixedBytes + rest;
  if (bytes.length < length) return 'incomplete';
  if (command === 0) return { length, client: undefined };
  return readAddresses(bytes, family, length);
}

/** Source address, destination address, source port, destination port, by address family and transport. */
function readAddresses(bytes: Buffer, family: number, length: number): ProxyHeader | 'malformed' {
  // Unspecified, and streams over unix sockets: the proxy has no address to tell.
  if (family === 0x00 || family === 0x31) return { length, client: undefined };
  const addressBytes = family === 0x11 ? 4 : family === 0x21 ? 16 : undefined;
  if (addressBytes === undefined || length < binaryFixedBytes + 2 * addressBytes + 4) return 'malformed';
  const source = bytes.subarray(binaryFixedBytes, binaryFixedBytes + addressBytes);
  const port = bytes.readUInt16BE(binaryFixedBytes + 2 * addressBytes);
  return { length, client: { address: addressBytes === 4 ? source.join('.') : writeIpv6(source), port } };
}

/** The usual form of an IPv6 address: the platform's, that of URLs [RFC 5952]. */
function writeIpv6(bytes: Buffer): string {
  const groups = Array.from({ length: 8 }, (_, index) => bytes.readUInt16BE(2 * index).toString(16));
  const isMapped = bytes.subarray(0, 10).every((byte) => byte === 0) && bytes.readUInt16BE(10) === 0xffff;
  if (isMapped) return bytes.subarray(12).join('.');
  return new URL(`http://[${groups.join(':')}]`).hostname.slice(1, -1);
}
