/**
 * A device: publishes a temperature now and then, and switches its fan when it is told to.
 *
 *     npm install mqtt
 *     DEVICE_ID=… DEVICE_PASSWORD=… node device.mjs
 *
 * MQTT_URL is mqtt://localhost:1883 unless set; mqtts://gateway.example:8883 is TLS. MQTT_CA names a file with the
 * certificate authority when it is not one that Node.js trusts. INTERVAL_SEC is the time between two readings, 5.
 */
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import mqtt from 'mqtt';

const {
  DEVICE_ID,
  DEVICE_PASSWORD,
  MQTT_URL = 'mqtt://localhost:1883',
  MQTT_CA,
  INTERVAL_SEC = '5',
} = process.env;
const mostWaiting = 1000;

const client = mqtt.connect(MQTT_URL, {
  username: DEVICE_ID,
  password: DEVICE_PASSWORD,
  // `clean: false` keeps the session, and the commands in it, while the device is away for a moment. The session
  // belongs to the client id, which is this device's own: another device may use the same one.
  clientId: 'main',
  clean: false,
  reconnectPeriod: 2000,
  // Without this MQTT.js gives up when the gateway says that it cannot look the device up just now.
  reconnectOnConnackError: true,
  ...(MQTT_CA === undefined ? {} : { ca: readFileSync(MQTT_CA) }),
});

// With a message id of its own in each payload a consumer can tell a repeated message from a new one.
const boot = randomBytes(4).toString('hex');
let count = 0;
let waiting = 0;
let fan = false;
let celsius = 28;

/** Publishes with QoS 1. What is not acknowledged is sent again after a reconnect, with the same payload. */
function send(kind, reading) {
  if (waiting >= mostWaiting) {
    console.log('too much is waiting: a reading is left out');
    return;
  }
  count += 1;
  waiting += 1;
  const id = `${boot}-${count}`;
  client.publish(`raw/${DEVICE_ID}/${kind}`, JSON.stringify({ id, ...reading }), { qos: 1 }, (error) => {
    waiting -= 1;
    // Acknowledged, and the gateway acknowledges what JetStream has stored.
    console.log(error ? `not sent: ${error.message}` : `stored ${id}`);
  });
}

client.on('connect', () => {
  console.log('connected');
  client.subscribe(`cmd/${DEVICE_ID}/#`, { qos: 1 });
});
client.on('error', (error) => console.log(`refused: ${error.message}`));
client.on('message', (topic, payload) => {
  if (topic !== `cmd/${DEVICE_ID}/fan`) return;
  fan = payload.toString() === 'on';
  console.log(`fan ${fan ? 'on' : 'off'}`);
  send('fan', { fan: fan ? 'on' : 'off' });
});

const timer = setInterval(() => {
  celsius += fan ? -1 : 1;
  send('temperature', { celsius });
}, Number(INTERVAL_SEC) * 1000);
process.once('SIGINT', () => {
  clearInterval(timer);
  client.end();
});
