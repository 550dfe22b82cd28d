import { createServer, type IncomingMessage, STATUS_CODES } from 'node:http';
import type { Duplex } from 'node:stream';
import { WebSocketServer } from 'ws';
import type { ByteSocket } from './accepted-socket.js';
import { WebSocketStream } from './websocket-stream.js';

export type WebSocketDoor = ReturnType<typeof openWebSocketDoor>;

/** Who is told of a handshake. */
interface Callbacks {
  onUpgraded(stream: ByteSocket): void;
  onRefused(problem: string): void;
}

const path = '/mqtt';
/** `mqtt` is that of MQTT 3.1.1 [MQTT-6.0.0-3]; clients that speak 3.1 ask for the other one. */
const subProtocols = ['mqtt', 'mqttv3.1'];
const maxHeaderBytes = 8_192;
/** Several small packets may come in one message, whatever the limit of one packet is. */
const leastMaxMessageBytes = 65_536;

/** A message may be in as many fragments as it would be, at its largest, in those of so many bytes: each costs memory until the last has come. */
const leastFragmentBytes = 1_024;

/**
 * Opens the door that makes WebSockets of sockets: HTTP upgrade, path and sub-protocol [MQTT 6]. Sockets are injected into an HTTP server that does not listen, the documented use of its event
 * `connection`.
 */
export function openWebSocketDoor(limits: { maxPacketBytes: number; maxConnectPacketBytes: number }) {
  const waiting = new WeakMap<Duplex, Callbacks>();
  const http = createServer({ maxHeaderSize: maxHeaderBytes, keepAliveTimeout: 0 });
  const maxPayload = Math.max(limits.maxPacketBytes, leastMaxMessageBytes);
  const webSockets = new WebSocketServer({
    noServer: true,
    clientTracking: false,
    perMessageDeflate: false,
    maxPayload,
    maxFragments: Math.ceil(maxPayload / leastFragmentBytes),
    // A ping is answered by the stream, which bounds the answers; text is refused whatever it holds.
    autoPong: false,
    skipUTF8Validation: true,
    handleProtocols: (offered) => subProtocols.find((name) => offered.has(name)) ?? false,
  });

  function refuse(socket: Duplex, status: number, problem: string): void {
    const body = `${problem}\n`;
    const head = [
      `HTTP/1.1 ${status} ${STATUS_CODES[status]}`,
      'Connection: close',
      ...(status === 426 ? ['Upgrade: websocket'] : []),
      'Content-Type: text/plain; charset=utf-8',
      `Content-Length: ${Buffer.byteLength(body)}`,
    ];
    socket.end(`${head.join('\r\n')}\r\n\r\n${body}`);
    waiting.get(socket)?.onRefused(problem);
    waiting.delete(socket);
  }

  http.on('request', (request) => {
    const known = pathOf(request) === path;
    refuse(request.socket, known ? 426 : 404, known ? 'Only WebSocket is spoken here' : notFound);
  });
  http.on('upgrade', (request, socket, head) => {
    if (pathOf(request) !== path) {
      refuse(socket, 404, notFound);
    } else if (!offersMqtt(request)) {
      refuse(socket, 400, 'The sub-protocol mqtt is required (Sec-WebSocket-Protocol: mqtt)');
    } else {
      webSockets.handleUpgrade(request, socket, head, (webSocket) => {
        const stream = new WebSocketStream(webSocket, socket, limits.maxConnectPacketBytes);
        const callbacks = waiting.get(socket);
        waiting.delete(socket);
        if (callbacks === undefined) stream.destroy();
        else callbacks.onUpgraded(stream);
      });
    }
  });
  http.on('clientError', (error, socket) => {
    if ((error as NodeJS.ErrnoException).code === 'ECONNRESET' || !socket.writable) socket.destroy();
    else refuse(socket, 400, 'This is no HTTP request');
  });
  webSockets.on('wsClientError', (error, socket) => refuse(socket, 400, error.message));

  return {
    upgrade(socket: Duplex, callbacks: Callbacks): void {
      waiting.set(socket, callbacks);
      http.emit('connection', socket);
      // An accepted socket is paused until here.
      if (socket.isPaused()) socket.resume();
    },
  };
}

const notFound = `There is only ${path} here`;

function pathOf(request: IncomingMessage): string {
  return (request.url ?? '').split('?', 1)[0] as string;
}

function offersMqtt(request: IncomingMessage): boolean {
  const offered = (request.headers['sec-websocket-protocol'] ?? '').split(',');
  return offered.some((name) => subProtocols.includes(name.trim()));
}
