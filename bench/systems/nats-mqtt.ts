import { openLink } from '../load/link.js';
import { disconnect, encodeSubscribe } from '../load/packets.js';
import { readNatsVersion, startNats } from './nats.js';
import type { System } from './system.js';

/** nats-server's own MQTT listener: it stores what is published at QoS 1 and 2 in its stream `$MQTT_msgs`. */
export const natsMqtt: System = {
  name: 'nats-mqtt',
  title: "nats-server's own MQTT",
  stores: true,
  version: readNatsVersion,
  async start({ scope }) {
    const server = await startNats(scope, { mqtt: true });
    await createInterest(server.mqttPort);
    return {
      name: 'nats-mqtt',
      mqttPort: server.mqttPort,
      parts: [{ role: 'nats', pid: server.pid }],
      nats: {
        url: server.url,
        pid: server.pid,
        monitoringUrl: server.monitoringUrl,
        stream: '$MQTT_msgs',
        subjectOf: (id) => `$MQTT.msgs.raw.${id}`,
      },
      stop: server.stop,
    };
  },
};

/**
 * Its stream keeps only what somebody is interested in: without a subscriber, a message that is acknowledged is stored
 * nowhere. So there is a session that is absent and has subscribed to everything, whose messages are kept for it.
 */
async function createInterest(port: number): Promise<void> {
  const clientId = 'bench-interest';
  // CONNECT with clean session 0 and no user name.
  const connectPacket = Buffer.concat([
    Buffer.from([0x10, 12 + clientId.length, 0, 4]),
    Buffer.from('MQTT'),
    Buffer.from([4, 0, 0, 60, 0, clientId.length]),
    Buffer.from(clientId),
  ]);
  let onSuback = () => {};
  const subscribed = new Promise<void>((resolve, reject) => {
    onSuback = resolve;
    setTimeout(() => reject(new Error('nats-server did not answer a subscription')), 10_000).unref();
  });
  const link = openLink(
    port,
    connectPacket,
    () => onSuback(),
    () => {},
  );
  if ((await link.accepted) !== 0) throw new Error('nats-server refused a persistent session');
  link.socket.write(encodeSubscribe(1, 'raw/#', 1));
  await subscribed;
  link.socket.end(disconnect);
}
