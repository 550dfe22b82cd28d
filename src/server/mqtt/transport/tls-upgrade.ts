import type { Socket } from 'node:net';
import { type Certificate, createServer, type TLSSocket } from 'node:tls';
import { messageOf } from '../../../errors.js';
import type { CertificateStore } from '../../tls/certificate-store.js';
import { readCertificateNames } from '../admission/certificate-names.js';
import type { AcceptedSocket, ClientCertificate } from './accepted-socket.js';

export type TlsDoor = ReturnType<typeof openTlsDoor>;

/** Who is told of a handshake. */
interface Callbacks {
  onSecure(secured: Pick<AcceptedSocket, 'socket' | 'certificate'>): void;
  onFailed(problem: string): void;
}

/**
 * Opens the door that lays TLS over accepted sockets. A certificate that a client shows is reported and not judged: the client learns at CONNECT why it is
 * refused, which TLS 1.3 could not tell it in time. Sockets are injected into a server that does not listen, the
 * documented use of its event `connection`.
 *
 * @param options.uriForm with `{id}`, see the setting MQTT_CLIENT_CERT_URI.
 */
export function openTlsDoor(options: { certificates: CertificateStore; uriForm: string }) {
  const { certificates, uriForm } = options;
  const { clientCa } = certificates;
  /** The server does not say which socket lies below a TLS socket; both ends of its connection do. */
  const waiting = new Map<string, Callbacks>();
  const server = createServer({
    ...certificates.contextOptions(),
    requestCert: clientCa,
    rejectUnauthorized: false,
  });
  certificates.onChange(() => server.setSecureContext(certificates.contextOptions()));

  server.on('secureConnection', (socket) => {
    const callbacks = waiting.get(endsOf(socket));
    if (callbacks === undefined) {
      socket.destroy();
      return;
    }
    // Of TLS 1.2, where each costs the server the work of a handshake, without an end and before CONNECT. Node.js tells
    // an attempt as an error after which the socket lives on.
    socket.disableRenegotiation();
    socket.on('error', () => socket.destroy());
    socket.allowHalfOpen = true;
    let certificate: ClientCertificate | undefined;
    try {
      certificate = clientCa ? readCertificate(socket, uriForm) : undefined;
    } catch (error) {
      // What nobody has looked at yet and who made it, anybody can show.
      callbacks.onFailed(`a certificate that cannot be read: ${messageOf(error)}`);
      socket.destroy();
      return;
    }
    callbacks.onSecure({ socket, certificate });
  });
  server.on('tlsClientError', (error, socket) => {
    const { code, message } = error as NodeJS.ErrnoException;
    // Left before the end of the handshake: the close of the socket below says so.
    if (code === 'ECONNRESET') return;
    waiting.get(endsOf(socket))?.onFailed(code ?? message);
  });

  return {
    secure(socket: Socket, callbacks: Callbacks): void {
      const ends = endsOf(socket);
      waiting.set(ends, callbacks);
      socket.once('close', () => {
        if (waiting.get(ends) === callbacks) waiting.delete(ends);
      });
      // A client that ends its side within the handshake has given up; behind the handshake it may still be answered.
      socket.allowHalfOpen = false;
      server.emit('connection', socket);
    },
  };
}

function endsOf(socket: Socket): string {
  return `${socket.remoteAddress} ${socket.remotePort} ${socket.localAddress} ${socket.localPort}`;
}

function readCertificate(socket: TLSSocket, uriForm: string): ClientCertificate | undefined {
  const certificate = socket.getPeerCertificate();
  // An empty object when the client has shown none.
  if (certificate.raw === undefined) return undefined;
  // The type does not say that there is no subject when OpenSSL cannot write an attribute of it as text.
  const subject: Certificate | undefined = certificate.subject;
  return {
    names: readCertificateNames(subject?.CN, certificate.subjectaltname, uriForm),
    problem: socket.authorized ? undefined : String(socket.authorizationError),
    validFromMs: Date.parse(certificate.valid_from),
    validUntilMs: Date.parse(certificate.valid_to),
  };
}
