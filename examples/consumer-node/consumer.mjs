/**
 * A consumer: takes every message of every device from the stream, keeps it once, and switches fans.
 *
 *     npm install nats
 *     node consumer.mjs
 *
 * NATS_URL is nats://localhost:4222 unless set.
 */
import { AckPolicy, connect, DeliverPolicy, nanos } from 'nats';

const nats = await connect({
  servers: process.env.NATS_URL ?? 'nats://localhost:4222',
  maxReconnectAttempts: -1,
});

// A durable consumer: NATS remembers what was acknowledged, so nothing is missed while this program does not run.
// Run it twice, and the two share the work.
await (await nats.jetstreamManager()).consumers.add('RAW', {
  durable_name: 'readings-node',
  filter_subject: 'raw.>',
  deliver_policy: DeliverPolicy.All,
  ack_policy: AckPolicy.Explicit,
  ack_wait: nanos(30_000),
});
const jetstream = nats.jetstream();
const consumer = await jetstream.consumers.get('RAW', 'readings-node');
const messages = await consumer.consume({ max_messages: 100 });
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => messages.close());

/**
 * What was kept. A message can come twice: it is stored again when its acknowledgement was lost on the way to the device,
 * and delivered again when ours was lost. In your program this is a table whose primary key is (device, id); a Set in
 * memory forgets.
 */
const kept = new Set();
const keyOf = (device, id) => `${device} ${id}`;
const isKept = (device, id) => kept.has(keyOf(device, id));
const keep = (device, id) => kept.add(keyOf(device, id));

/** Reads a message, or throws. A device can send anything: believe nothing that was not looked at. */
function read(message, kind) {
  const reading = message.json();
  if (typeof reading?.id !== 'string') throw new Error('it has no id');
  if (!/^[!-~]{1,64}$/.test(reading.id)) throw new Error('its id has not 1 to 64 printable characters');
  const { celsius, fan } = reading;
  if (kind === 'temperature' && !(typeof celsius === 'number' && celsius > -300 && celsius < 3000))
    throw new Error('it has no temperature');
  if (kind === 'fan' && fan !== 'on' && fan !== 'off')
    throw new Error('it does not say whether the fan is on');
  return reading;
}

/** The device id in a subject: there a dot in an old id is %2E. */
function idOf(token) {
  try {
    return decodeURIComponent(token);
  } catch {
    return token;
  }
}

async function take(message) {
  // raw.<device id>; the gateway lets no device use another's. The topic is in a header.
  const token = message.subject.split('.')[1];
  const device = idOf(token);
  const kind = message.headers?.get('Mqtt-Topic').split('/')[2];
  let reading;
  try {
    reading = read(message, kind);
  } catch (error) {
    // It will not get better: say so, and do not have it delivered again. The error may quote what the device sent.
    console.log(`${device} unreadable: ${JSON.stringify(error.message)}`);
    message.term();
    return;
  }

  if (isKept(device, reading.id)) {
    console.log(`${device} ${reading.id} again`);
    message.ack();
    return;
  }
  if (kind === 'temperature') {
    console.log(`${device} ${reading.id} ${reading.celsius} °C`);
    // A command goes to cmd.<device id>.…; the device gets it under cmd/<device id>/…, at once if it is connected,
    // else when it comes back to its session. This returns when the command is stored.
    if (reading.celsius > 30) await jetstream.publish(`cmd.${token}.fan`, 'on');
    if (reading.celsius < 25) await jetstream.publish(`cmd.${token}.fan`, 'off');
  } else if (kind === 'fan') console.log(`${device} ${reading.id} fan ${reading.fan}`);
  // Only now that all is done: if this program ends before, the message comes again, and the command can be sent twice.
  keep(device, reading.id);
  // What was not acknowledged within 30 s is delivered again, also to another copy of this program.
  message.ack();
}

for await (const message of messages) {
  // What fails is not acknowledged, so it comes again.
  await take(message).catch((error) => console.error(`${message.subject} is not done: ${error.message}`));
}
await nats.drain();
