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
const consumer = await nats.jetstream().consumers.get('RAW', 'readings-node');
const messages = await consumer.consume({ max_messages: 100 });
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => messages.close());

/**
 * Keeps a message; false when it was kept before. A message can come twice: it is stored again when its
 * acknowledgement was lost on the way to the device, and delivered again when ours was lost. In your program this is
 * one INSERT into a table whose primary key is (device, id); a Set in memory forgets.
 */
const kept = new Set();
function keep(device, id) {
  const key = `${device} ${id}`;
  if (kept.has(key)) return false;
  kept.add(key);
  return true;
}

/** The device id in a subject: there a dot in an old id is %2E. */
function idOf(token) {
  try {
    return decodeURIComponent(token);
  } catch {
    return token;
  }
}

for await (const message of messages) {
  // raw.<device id>; the gateway lets no device use another's. The topic is in a header.
  const token = message.subject.split('.')[1];
  const device = idOf(token);
  const kind = message.headers?.get('Mqtt-Topic').split('/')[2];
  let reading;
  try {
    reading = message.json();
    if (typeof reading?.id !== 'string') throw new Error('it has no id');
  } catch (error) {
    // It will not get better: say so, and do not have it delivered again.
    console.log(`${device} unreadable: ${error.message}`);
    message.term();
    continue;
  }

  if (!keep(device, reading.id)) console.log(`${device} ${reading.id} again`);
  else if (kind === 'temperature') {
    console.log(`${device} ${reading.id} ${reading.celsius} °C`);
    // A command goes to cmd.<device id>.…; the device gets it under cmd/<device id>/… if it is connected.
    if (reading.celsius > 30) nats.publish(`cmd.${token}.fan`, 'on');
    if (reading.celsius < 25) nats.publish(`cmd.${token}.fan`, 'off');
  } else if (kind === 'fan') console.log(`${device} ${reading.id} fan ${reading.fan}`);
  // Only now: what was not acknowledged within 30 s is delivered again, also to another copy of this program.
  message.ack();
}
await nats.drain();
