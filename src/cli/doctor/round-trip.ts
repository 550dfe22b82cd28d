import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type { Config } from '../../config.js';
import type { Database } from '../../db/connection/open.js';
import type { NewDevice } from '../../db/devices/devices.js';
import { addSyntheticDevice, removeSyntheticDevice } from '../../db/devices/synthetic-device.js';
import type { NatsInspector } from '../../server/forward/stream/inspect-nats.js';
import { compileSubject } from '../../server/forward/subject.js';
import { readAddressRanges } from '../../server/mqtt/admission/address-ranges.js';
import { readCliActor } from '../store/actor.js';
import { reachable } from '../store/own-server.js';
import { type Finding, ok, problem, skipped } from './finding.js';
import { type ProbeOutcome, probeMqtt } from './mqtt-probe.js';
import { type ProbedVersion, probedVersions } from './mqtt-visit.js';
import { checkSleepingDevice } from './sleeping-device.js';

const probeTimeoutMs = 6_000;
const passedOnWithinMs = 2_000;
const pollMs = 20;

/**
 * Sends a message as a device does, by MQTT 3.1.1 and by MQTT 5, and looks for each in NATS; then a command the other way, to
 * a device that sleeps. A device is added for them and removed again; the messages stay in the stream.
 */
export async function checkRoundTrip(
  config: Config,
  parts: { db: Database; inspector: NatsInspector; signal: AbortSignal },
  add: (finding: Finding) => void,
): Promise<void> {
  const door = chooseDoor(config);
  if (typeof door === 'string') {
    add(skipped('message', door));
    return;
  }
  const { db, inspector, signal } = parts;
  const device = await addSyntheticDevice(db, readCliActor());
  try {
    for (const version of [4, 5] as const)
      await send(config, door, { inspector, device, signal, version }, add);
    if (config.enableJetstream)
      await checkSleepingDevice(
        { ...placeOf(config, door), timeoutMs: probeTimeoutMs, signal },
        { device, inspector },
        add,
      );
  } finally {
    await removeSyntheticDevice(db, readCliActor(), device.id);
  }
}

interface Door {
  readonly port: number;
  readonly tls: boolean;
}

/** Where a device without a client certificate can come in, or why it cannot. */
function chooseDoor(config: Config): Door | string {
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

/** Where a connection goes, and what it begins with. */
function placeOf(config: Config, door: Door) {
  const host = reachable(config.mqttHost).replace(/^\[|\]$/g, '');
  return { ...door, host, preamble: proxyPreamble(config) };
}

async function send(
  config: Config,
  door: Door,
  parts: { inspector: NatsInspector; device: NewDevice; signal: AbortSignal; version: ProbedVersion },
  add: (finding: Finding) => void,
): Promise<void> {
  const { inspector, device, signal, version } = parts;
  const by = `by MQTT ${probedVersions[version]}`;
  const topic = `raw/${device.id}`;
  const subject = compileSubject(config.natsSubject, device)(topic);
  const payload = Buffer.from(JSON.stringify({ doctor: randomUUID() }));
  const passedOn = await inspector.watch(subject);
  const outcome = await probeMqtt({
    ...placeOf(config, door),
    version,
    clientId: 'doctor',
    user: device.mqttUser,
    password: device.mqttPassword,
    topic,
    payload,
    timeoutMs: probeTimeoutMs,
    signal,
  });
  if (outcome.reached !== 'acknowledged') {
    add(explainProbe(door.port, by, outcome));
    return;
  }
  const timeMs = Math.round(outcome.timeMs * 10) / 10;
  if (!config.enableJetstream) {
    const endMs = performance.now() + passedOnWithinMs;
    const arrived = () => passedOn.received.some((each) => each.equals(payload));
    while (!arrived() && performance.now() < endMs) await delay(pollMs);
    add(
      arrived()
        ? ok(
            'message',
            `A message went ${by} from a device to ${subject} in NATS, acknowledged in ${timeMs} ms`,
          )
        : problem(
            'message',
            `A message was acknowledged ${by} and did not come to ${subject} in NATS`,
            'See that server and doctor have the same NATS_URL, NATS_SUBJECT and account',
          ),
    );
    return;
  }
  for (const { name } of await inspector.findStreams(subject)) {
    const stored = await inspector.readLast(name, subject);
    if (stored?.payload.equals(payload) !== true) continue;
    add(
      ok(
        'message',
        `A message went ${by} from a device to stream ${name} and back (${subject}, number ${stored.sequence}), acknowledged in ${timeMs} ms; it stays there`,
      ),
    );
    return;
  }
  add(
    problem(
      'message',
      `A message was acknowledged ${by} and is in no stream under ${subject}`,
      'See that server and doctor have the same NATS_URL, NATS_SUBJECT and account, and that the stream keeps messages',
    ),
  );
}

function explainProbe(
  port: number,
  by: string,
  { reached, why }: Exclude<ProbeOutcome, { reached: 'acknowledged' }>,
): Finding {
  if (reached === 'nowhere') {
    const detail = `No connection to MQTT on port ${port}: ${why}`;
    return problem('message', detail, 'See that the server listens there (MQTT_HOST, MQTT_PORT)');
  }
  if (reached === 'connected') {
    const detail = `A device added just now was not let in ${by} on port ${port}: ${why}`;
    return problem(
      'message',
      detail,
      'See that the server has this database; its log says why (connect_refused)',
    );
  }
  const detail = `A message of a device was not acknowledged ${by}: ${why}`;
  return problem(
    'message',
    detail,
    'The log of the server says why: uplink_not_stored (NATS), publish_denied (the default policy)',
  );
}
