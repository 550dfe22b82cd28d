import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type { Config } from '../../config.js';
import type { Database } from '../../db/connection/open.js';
import type { NewDevice } from '../../db/devices/devices.js';
import { addSyntheticDevice, removeSyntheticDevice } from '../../db/devices/synthetic-device.js';
import type { NatsInspector } from '../../server/forward/stream/inspect-nats.js';
import { compileSubject } from '../../server/forward/subject.js';
import { readAddressRanges } from '../../server/mqtt/admission/address-ranges.js';
import { PacketType } from '../../server/mqtt/protocol/packet-type.js';
import { codecs3 } from '../../server/mqtt/protocol/v3/codec.js';
import { codec5 } from '../../server/mqtt/protocol/v5/codec.js';
import { readCliActor } from '../store/actor.js';
import { reachable } from '../store/own-server.js';
import type { Check } from './finding.js';
import {
  type Place,
  type ProbedVersion,
  probedVersions,
  VisitEnded,
  type VisitOptions,
  visitMqtt,
} from './mqtt-visit.js';
import { checkSleepingDevice } from './sleeping-device.js';

const probeTimeoutMs = 6_000;
const passedOnWithinMs = 2_000;
const pollMs = 20;

/**
 * Sends a message as a device does, by MQTT 3.1.1 and by MQTT 5, and looks for each in NATS; then a command the other way, to
 * a device that sleeps. A device is added for them and removed again; the messages stay in the stream.
 */
export async function checkRoundTrip(
  check: Check,
  config: Config,
  { db, inspector, signal }: { db: Database; inspector: NatsInspector; signal: AbortSignal },
): Promise<void> {
  const door = chooseDoor(config);
  if (typeof door === 'string') return check.skipped(door);
  const host = reachable(config.mqttHost).replace(/^\[|\]$/g, '');
  const place = { ...door, host, preamble: proxyPreamble(config), timeoutMs: probeTimeoutMs, signal };
  const device = await addSyntheticDevice(db, readCliActor());
  try {
    for (const version of [4, 5] as const)
      await checkMessage(check, config, place, { inspector, device, version });
    if (config.enableJetstream)
      await checkSleepingDevice(check.named('command'), place, { device, inspector });
  } finally {
    await removeSyntheticDevice(db, readCliActor(), device.id);
  }
}

/** Where a device without a client certificate can come in, or why it cannot. */
function chooseDoor(config: Config): Pick<Place, 'port' | 'tls'> | string {
  // It holds on every port, those without TLS included.
  if (config.mqttClientCert !== 'optional')
    return 'Devices need a client certificate (MQTT_CLIENT_CERT), and the doctor has none';
  if (config.mqttTcp) {
    if (config.mqttPort !== 0) return { port: config.mqttPort, tls: false };
    return 'MQTT_PORT=0: the port of the server is not known; give it with --mqtt-port';
  }
  if (config.tlsCert === undefined) return 'There are only WebSockets, which the doctor does not speak';
  return { port: config.mqttsPort, tls: true };
}

/** A server that trusts this machine to be a proxy waits for its header; this one says that it speaks for itself. */
function proxyPreamble({ proxyProtocolFrom }: Config): string {
  const expected =
    proxyProtocolFrom !== undefined &&
    readAddressRanges(proxyProtocolFrom, 'PROXY_PROTOCOL_FROM').includes('127.0.0.1');
  return expected ? 'PROXY UNKNOWN\r\n' : '';
}

async function checkMessage(
  { ok, problem }: Check,
  config: Config,
  place: Place,
  parts: { inspector: NatsInspector; device: NewDevice; version: ProbedVersion },
): Promise<void> {
  const { inspector, device, version } = parts;
  const by = `by MQTT ${probedVersions[version]}`;
  const topic = `raw/${device.id}`;
  const subject = compileSubject(config.natsSubject, device)(topic);
  const payload = Buffer.from(JSON.stringify({ doctor: randomUUID() }));
  const passedOn = await inspector.watch(subject);
  let timeMs: number;
  try {
    timeMs = await publish(
      { ...place, version, clientId: 'doctor', user: device.mqttUser, password: device.mqttPassword },
      { topic, payload, retain: false },
    );
  } catch (error) {
    if (!(error instanceof VisitEnded)) throw error;
    return problem(...explain(error, place.port, by));
  }
  if (!config.enableJetstream) {
    const endMs = performance.now() + passedOnWithinMs;
    const arrived = () => passedOn.received.some((each) => each.equals(payload));
    while (!arrived() && performance.now() < endMs) await delay(pollMs);
    return arrived()
      ? ok(`A message went ${by} from a device to ${subject} in NATS, acknowledged in ${timeMs} ms`)
      : problem(
          `A message was acknowledged ${by} and did not come to ${subject} in NATS`,
          'See that server and doctor have the same NATS_URL, NATS_SUBJECT and account',
        );
  }
  for (const { name } of await inspector.findStreams(subject)) {
    const stored = await inspector.readLast(name, subject);
    if (stored?.payload.equals(payload) === true)
      return ok(
        `A message went ${by} from a device to stream ${name} and back (${subject}, number ${stored.sequence}), acknowledged in ${timeMs} ms; it stays there`,
      );
  }
  problem(
    `A message was acknowledged ${by} and is in no stream under ${subject}`,
    'See that server and doctor have the same NATS_URL, NATS_SUBJECT and account, and that the stream keeps messages',
  );
}

/** Publishes one message with QoS 1 as a device. @returns how long its PUBACK took, ms. @throws VisitEnded. */
async function publish(
  options: VisitOptions,
  message: Parameters<typeof codec5.encodePublish>[0],
): Promise<number> {
  const codec = options.version === 5 ? codec5 : codecs3[4];
  const visit = await visitMqtt(options);
  const sentAtMs = performance.now();
  visit.send(codec.encodePublish(message, { qos: 1, packetId: 1, dup: false }) as Buffer);
  const puback = await visit.next(PacketType.PUBACK);
  const timeMs = performance.now() - sentAtMs;
  await visit.leave();
  // MQTT 5 leaves out a 0.
  const code = puback[4] ?? 0;
  if (code !== 0) throw new VisitEnded('logged-in', `PUBACK ${code}`);
  return Math.round(timeMs * 10) / 10;
}

/** What went wrong, and what to do. */
function explain({ reached, message }: VisitEnded, port: number, by: string): [string, string] {
  if (reached === 'nowhere')
    return [
      `No connection to MQTT on port ${port}: ${message}`,
      'See that the server listens there (MQTT_HOST, MQTT_PORT)',
    ];
  if (reached === 'connected')
    return [
      `A device added just now was not let in ${by} on port ${port}: ${message}`,
      'See that the server has this database; its log says why (connect_refused)',
    ];
  return [
    `A message of a device was not acknowledged ${by}: ${message}`,
    'The log of the server says why: uplink_not_stored (NATS), publish_denied (the default policy)',
  ];
}
