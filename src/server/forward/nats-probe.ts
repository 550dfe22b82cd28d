import { connect } from 'node:net';

const answerWithinMs = 2_000;

/** What listens on a port of this machine. */
export type Listener = 'nats' | 'other' | 'nothing';

/** Tells whether a NATS server listens on 127.0.0.1: it greets with `INFO`. */
export function probeNats(port: number): Promise<Listener> {
  return new Promise((resolve) => {
    const socket = connect({ host: '127.0.0.1', port });
    let greeting = '';
    let connected = false;
    const end = (listener: Listener) => {
      clearTimeout(timer);
      socket.destroy();
      resolve(listener);
    };
    const timer = setTimeout(() => end(connected ? 'other' : 'nothing'), answerWithinMs);
    socket.setEncoding('latin1');
    socket.on('connect', () => {
      connected = true;
    });
    socket.on('data', (text: string) => {
      greeting += text;
      if (greeting.startsWith('INFO {')) end('nats');
      else if (!'INFO {'.startsWith(greeting)) end('other');
    });
    socket.on('error', () => end(connected ? 'other' : 'nothing'));
    socket.on('close', () => end(connected ? 'other' : 'nothing'));
  });
}
