import { connectAsync, type IClientOptions, type IPublishPacket, type MqttClient } from 'mqtt';
import type { Credentials } from '../support/load.js';
import type { OnFinished } from './gateway.js';

/** A client of MQTT.js, of MQTT 5, that ends with the test; `got` is what it has received. */
export async function connectMqttJs(
  onFinished: OnFinished,
  port: number,
  device: Credentials,
  options: IClientOptions = {},
): Promise<MqttClient & { readonly got: IPublishPacket[] }> {
  const client = await connectAsync(`mqtt://127.0.0.1:${port}`, {
    protocolVersion: 5,
    username: device.id,
    password: device.password,
    reconnectPeriod: 0,
    ...options,
  });
  client.on('error', () => {});
  onFinished(() => client.endAsync(true));
  const got: IPublishPacket[] = [];
  client.on('message', (_topic, _payload, packet) => got.push(packet));
  return Object.assign(client, { got });
}
