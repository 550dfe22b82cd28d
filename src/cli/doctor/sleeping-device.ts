import { randomUUID } from 'node:crypto';
import type { NewDevice } from '../../db/devices/devices.js';
import type { NatsInspector } from '../../server/forward/stream/inspect-nats.js';
import { encodeLength } from '../../server/mqtt/protocol/fixed-header.js';
import { PacketType } from '../../server/mqtt/protocol/packet-type.js';
import type { Check } from './finding.js';
import { field, type Place, VisitEnded, type VisitOptions, visitMqtt } from './mqtt-visit.js';

/** Should the doctor not live to end the session, it is gone after this time. */
const sessionSec = 60;
/** DISCONNECT of MQTT 5 that ends the session (Session Expiry Interval 0). */
const endSession = Buffer.from([PacketType.DISCONNECT << 4, 7, 0, 5, 0x11, 0, 0, 0, 0]);
/** What is wrong, and what to do. */
type Fault = [detail: string, action: string];
const logOf = 'The log of the server says why:';

/**
 * Puts a command through to a device that sleeps: it subscribes and leaves, the command is stored, it comes back and gets
 * it. Session and command are removed again.
 */
export async function checkSleepingDevice(
  { ok, skipped, problem }: Check,
  place: Place,
  { device, inspector }: { device: NewDevice; inspector: NatsInspector },
): Promise<void> {
  const subject = `cmd.${device.id}.doctor`;
  const streams = await inspector.findStreams(subject);
  if (!streams.some(({ covering, retention, sealed }) => covering && retention === 'limits' && !sealed))
    return skipped('No stream keeps commands, so that none waits for a device that sleeps');
  const payload = Buffer.from(JSON.stringify({ doctor: randomUUID() }));
  const client: VisitOptions = {
    ...place,
    version: 5,
    clientId: 'doctor-asleep',
    user: device.mqttUser,
    password: device.mqttPassword,
    sessionExpirySec: sessionSec,
  };
  let stored: { stream: string; sequence: number } | undefined;
  let fault: Fault | undefined;
  let removed = false;
  let timeMs = 0;
  try {
    const first = await visitMqtt(client);
    first.send(encodeSubscribe(`cmd/${device.id}/#`));
    const code = (await first.next(PacketType.SUBACK)).at(-1) ?? 0;
    await first.leave();
    if (code > 2)
      fault = [`A device may not subscribe to its commands: SUBACK ${code}`, `${logOf} subscribe_denied`];
    else {
      stored = await inspector.store(subject, payload);
      const second = await visitMqtt(client);
      const beganAtMs = performance.now();
      if (second.sessionPresent) {
        const packet = await second.next(PacketType.PUBLISH);
        timeMs = performance.now() - beganAtMs;
        if (!packet.includes(payload))
          fault = [
            'A device that slept got another message than its command',
            'See who publishes to its topics',
          ];
        second.send(encodePuback(packet));
      } else {
        fault = [
          'The session of a device was gone when it came back',
          `${logOf} state_stream_unusable, sessions_not_stored`,
        ];
      }
      await second.leave(endSession);
    }
  } catch (error) {
    if (!(error instanceof VisitEnded)) throw error;
    fault = explain(error, stored);
  } finally {
    if (stored !== undefined) removed = await inspector.removeMessage(stored.stream, stored.sequence);
  }
  if (fault !== undefined) problem(...fault);
  else if (stored !== undefined)
    ok(
      `A command waited in stream ${stored.stream} (${subject}, number ${stored.sequence}) for a device that slept, and reached it in ${Math.round(timeMs * 10) / 10} ms; it ${removed ? 'is removed' : 'stays there'}`,
    );
}

function explain({ reached, message }: VisitEnded, stored: unknown): Fault {
  if (stored === undefined && reached === 'logged-in')
    return [
      `SUBSCRIBE of a device was not answered: ${message}`,
      `${logOf} nats_disconnected, commands_not_stored`,
    ];
  if (reached === 'logged-in')
    return [
      `A command that was stored did not reach a device that came back for it: ${message}`,
      'See that server and doctor have the same NATS_URL and account, and what /readyz says of commands',
    ];
  const when = stored === undefined ? 'with a session' : 'when it came back to its session';
  return [`A device was not let in ${when}: ${message}`, `${logOf} connect_refused, session_not_taken`];
}

function encodeSubscribe(filter: string): Buffer {
  const body = Buffer.concat([Buffer.from([0, 1, 0]), field(filter), Buffer.from([1])]);
  return Buffer.concat([Buffer.from([(PacketType.SUBSCRIBE << 4) | 2, ...encodeLength(body.length)]), body]);
}

/** For a PUBLISH of QoS 1. */
function encodePuback(publish: Buffer): Buffer {
  let at = 1;
  while (((publish[at] ?? 0) & 0x80) !== 0) at += 1;
  at += 1;
  at += 2 + publish.readUInt16BE(at);
  return Buffer.concat([Buffer.from([PacketType.PUBACK << 4, 2]), publish.subarray(at, at + 2)]);
}
