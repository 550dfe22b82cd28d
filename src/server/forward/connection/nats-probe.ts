import { connect } from 'node:net';

const localTimeoutMs = 2_000;
const greetingStart = 'INFO {';

/** What listens on a port of this machine. */
export type PortUse = 'nats' | 'other' | 'nothing';

/** Tells what listens on a port of 127.0.0.1. */
export async function probeNats(port: number): Promise<PortUse> {
  try {
    return await awaitGreeting('127.0.0.1', port, localTimeoutMs);
  } catch {
    return 'nothing';
  }
}

/**
 * Waits for the first words of a server; NATS greets with `INFO`. Closes the connection in every case.
 *
 * @returns whether it is NATS; `other` also when it accepts the connection and says nothing.
 * @throws the error of the socket, or one with code `TIMEOUT`, when the connection is not made.
 */
export function awaitGreeting(host: string, port: number, timeoutMs: number): Promise<'nats' | 'other'> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port });
    let greeting = '';
    let connected = false;
    const end = (settle: () => void) => {
      clearTimeout(timer);
      socket.destroy();
      settle();
    };
    const timer = setTimeout(() => {
      end(() =>
        connected ? resolve('other') : reject(Object.assign(new Error('timeout'), { code: 'TIMEOUT' })),
      );
    }, timeoutMs);
    socket.setEncoding('latin1');
    socket.on('connect', () => {
      connected = true;
    });
    socket.on('data', (text: string) => {
      greeting += text;
      if (greeting.startsWith(greetingStart)) end(() => resolve('nats'));
      else if (!greetingStart.startsWith(greeting)) end(() => resolve('other'));
    });
    socket.on('error', (error) => end(() => (connected ? resolve('other') : reject(error))));
    socket.on('close', () => end(() => resolve('other')));
  });
}

/**
 * Why a server ends a connection right behind its greeting, as one does that takes no more of them; undefined: it does not, or says nothing.
 * Never throws.
 */
export function readRefusal(host: string, port: number): Promise<string | undefined> {
  return new Promise((resolve) => {
    const socket = connect({ host, port, timeout: localTimeoutMs });
    let said = '';
    socket.setEncoding('latin1');
    socket.on('data', (text: string) => {
      said += text;
    });
    socket.on('timeout', () => socket.destroy());
    socket.on('error', () => {});
    socket.on('close', () => resolve(/^-ERR '([^'\r]*)'/m.exec(said)?.[1]));
  });
}
