import type { Log } from '../../log.js';
import type { Forwarder } from './forwarder.js';
import { type ForwarderLimits, startForwarding } from './forwarding.js';
import type { NatsLink } from './nats-connection.js';

/**
 * Starts a forwarder to core NATS: a message counts as stored when the server has read it, that is, when it has
 * answered a PING sent behind it. One PING confirms everything sent since the one before.
 */
export function startCoreForwarder(options: {
  link: NatsLink;
  limits: ForwarderLimits;
  log: Log;
}): Forwarder {
  const { link } = options;
  return startForwarding({
    ...options,
    confirmation({ confirmed, unconfirmed }) {
      let sent: number[] = [];
      let asked: number[] = [];
      let sentMark = 0;
      let askedMark = 0;
      return {
        async connected() {},
        disconnected() {
          sent = [];
          asked = [];
        },
        send(wire, message, token) {
          wire.publish(message);
          sent.push(token);
          link.requestPing();
        },
        sendPlain(wire, message, mark) {
          wire.publish(message);
          if (mark === 0) return;
          sentMark = mark;
          link.requestPing();
        },
        pinged() {
          asked = sent;
          sent = [];
          askedMark = sentMark;
        },
        ponged() {
          const read = asked;
          asked = [];
          for (const token of read) confirmed.settleStored(token);
          unconfirmed.settleMark(askedMark, true);
        },
        groupOf: () => 0,
        maxMessageBytes: Number.POSITIVE_INFINITY,
        ingest: undefined,
      };
    },
  });
}
