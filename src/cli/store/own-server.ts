import { type Config, splitListenAddr } from '../../config.js';

/** Where the HTTP API of a server with these settings answers on this machine; undefined on any free port. */
export function ownApiUrl(config: Pick<Config, 'listenAddr' | 'httpTlsCert'>): string | undefined {
  const { host, port } = splitListenAddr(config.listenAddr);
  if (port === 0) return undefined;
  return `${config.httpTlsCert === undefined ? 'http' : 'https'}://${reachable(host)}:${port}`;
}

/** An address to reach what listens on a host: all addresses are reached by the loopback one. */
export function reachable(host: string): string {
  if (host === '::' || host === '0.0.0.0' || host === '') return '127.0.0.1';
  return host.includes(':') ? `[${host}]` : host;
}
