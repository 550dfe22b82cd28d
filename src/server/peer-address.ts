import { isIPv6, type Socket } from 'node:net';

const mappedIpv4 = /^::ffff:(?=\d+\.\d+\.\d+\.\d+$)/i;

/** The address of a peer as it is shown and compared: an IPv4 address in its own form, not mapped into IPv6. */
export function plainAddress(address: string | undefined): string {
  if (address === undefined) return '?';
  return address.includes(':') ? address.replace(mappedIpv4, '') : address;
}

/** The plain address of a socket's peer; undefined once the peer is gone. */
export function peerAddressOf({ remoteAddress }: Pick<Socket, 'remoteAddress'>): string | undefined {
  return remoteAddress === undefined ? undefined : plainAddress(remoteAddress);
}

/**
 * The part of an address that stays the same however its owner chooses the rest: an IPv4 address whole, an IPv6 address
 * up to its first 64 bits, which is what one site is given at least (RFC 6177).
 *
 * @param address as a socket reports it; undefined once the peer is gone.
 */
export function addressGroup(address: string | undefined): string {
  if (address === undefined) return 'unknown';
  const own = plainAddress(address);
  if (!own.includes(':')) return own;
  const plain = own.split('%', 1)[0] ?? own;
  if (!isIPv6(plain)) return own;
  const [head = '', tail] = plain.toLowerCase().split('::');
  const groups = head === '' ? [] : head.split(':');
  if (tail !== undefined) {
    const after = tail === '' ? 0 : tail.split(':').length + (tail.includes('.') ? 1 : 0);
    while (groups.length + after < 8) groups.push('0');
    groups.push(...tail.split(':'));
  }
  const prefix = groups.slice(0, 4).map((group) => Number.parseInt(group, 16).toString(16));
  return `${prefix.join(':')}::/64`;
}
