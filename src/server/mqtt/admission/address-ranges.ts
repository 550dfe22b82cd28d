import { BlockList, isIP } from 'node:net';
import { SvcMqttError } from '../../../errors.js';

/** A set of addresses. */
export type AddressRanges = ReturnType<typeof readAddressRanges>;

/**
 * Reads a comma-separated list of addresses and networks: `10.0.0.0/8,192.0.2.7,fd00::/8`.
 *
 * @param setting the variable that holds it, for the message.
 * @throws SvcMqttError CONFIG_INVALID naming every entry that is neither.
 */
export function readAddressRanges(list: string, setting: string) {
  const ranges = new BlockList();
  const wrong = list
    .split(',')
    .map((entry) => entry.trim())
    .filter((entry) => !addRange(ranges, entry));
  if (wrong.length > 0) {
    const named = wrong.map((entry) => `"${entry}"`).join(' and ');
    throw new SvcMqttError(
      'CONFIG_INVALID',
      `${setting} cannot hold ${named}: it takes IP addresses and networks, separated by commas`,
      { suggestion: `Set ${setting} to a list as 10.0.0.0/8,192.0.2.7,fd00::/8` },
    );
  }
  return {
    /** @param address as `plainAddress` gives it. */
    includes(address: string): boolean {
      const version = isIP(address);
      // Of a client that is gone already there is no address, at which some versions of Node.js throw.
      return version !== 0 && ranges.check(address, version === 6 ? 'ipv6' : 'ipv4');
    },
  };
}

function addRange(ranges: BlockList, entry: string): boolean {
  const [, address, prefix] = /^([0-9A-Fa-f.:]+)(?:\/(\d{1,3}))?$/.exec(entry) ?? [];
  const version = isIP(address ?? '');
  if (address === undefined || version === 0) return false;
  const family = version === 6 ? 'ipv6' : 'ipv4';
  if (prefix === undefined) {
    ranges.addAddress(address, family);
    return true;
  }
  if (Number(prefix) > (version === 6 ? 128 : 32)) return false;
  ranges.addSubnet(address, Number(prefix), family);
  return true;
}
