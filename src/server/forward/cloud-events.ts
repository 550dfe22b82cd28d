import { SvcMqttError } from '../../errors.js';
import { within } from '../../time-limit.js';
import type { NatsLink } from './connection/nats-link.js';
import { type NatsWire, noWire } from './connection/nats-wire.js';
import { escapeToken, percentEncode } from './subject.js';

/** Something that services are told of a device. */
export interface DeviceEvent {
  /** Last token of the subject, and of the type. */
  readonly kind: string;
  readonly device: string;
  /** Wall-clock milliseconds. */
  readonly atMs: number;
  /** Unique among those of the source. */
  readonly id: string;
  /** URI-reference: who tells it. */
  readonly source: string;
  /** The JSON body has these after `kind`, `device` and `at`. */
  readonly data: Readonly<Record<string, unknown>>;
}

/** What an attribute has percent-encoded in a header (§3.1.3.2). */
const unfitInAttribute = /[^\x21\x23\x24\x26-\x7e]/gu;

/** What is sent within so long leaves in one write, which costs more than an event. */
const gatherMs = 10;
/** A server that is silent for longer is asked again later. */
const flushWithinMs = 2_000;

export function natsAway(): SvcMqttError {
  return new SvcMqttError('NATS_UNREACHABLE', 'NATS is away', { mayPass: true });
}

export type CloudEventSender = ReturnType<typeof openCloudEvents>;

/** Sends events to NATS as CloudEvents 1.0 in binary mode (CloudEvents NATS Protocol Binding, §3.1). */
export function openCloudEvents(link: NatsLink) {
  let wire: NatsWire = noWire;
  let leaving: NodeJS.Timeout | undefined;
  const leave = () => {
    leaving = undefined;
    try {
      wire.flush();
    } catch {
      // The connection has just ended.
    }
  };
  link.listen({
    connected(_connection, newWire) {
      wire = newWire;
    },
    disconnected() {
      wire = noWire;
    },
  });
  return {
    /** @returns false when NATS is away or slow, and the event is not sent. */
    send(event: DeviceEvent): boolean {
      if (!link.open) return false;
      try {
        publish(wire, event);
        if (leaving === undefined) leaving = setTimeout(leave, gatherMs).unref();
        return true;
      } catch {
        // The connection has ended in this turn.
        return false;
      }
    },
    /** NATS has taken what was sent before. @throws SvcMqttError NATS_UNREACHABLE when it may not have. */
    async flush(): Promise<void> {
      const { connection } = link;
      if (connection === undefined || !link.open) throw natsAway();
      wire.flush();
      await within(flushWithinMs, connection.flush()).catch(() => {
        throw natsAway();
      });
    },
  };
}

/** `Nats-Msg-Id` lets a stream over the events keep one of those that are sent twice. */
function publish(wire: NatsWire, { kind, device, atMs, id, source, data }: DeviceEvent): void {
  const time = timeOf(atMs);
  wire.publishText(
    `event.device.${escapeToken(device)}.${kind}`,
    'NATS/1.0\r\nce-specversion: 1.0\r\n' +
      `ce-type: svc-mqtt.device.${kind}\r\nce-source: ${source}\r\nce-id: ${id}\r\nce-time: ${time}\r\n` +
      `ce-subject: ${percentEncode(device, unfitInAttribute)}\r\nce-datacontenttype: application/json\r\n` +
      `Content-Type: application/json\r\nNats-Msg-Id: ${source}#${id}\r\n\r\n`,
    JSON.stringify({ kind, device, at: time, ...data }),
  );
}

let latest = { atMs: 0, text: new Date(0).toISOString() };

/** Many happen in a millisecond. */
function timeOf(atMs: number): string {
  if (atMs !== latest.atMs) latest = { atMs, text: new Date(atMs).toISOString() };
  return latest.text;
}
