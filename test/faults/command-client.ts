import type { Credentials } from '../support/load.js';
import { packet, type RawClient, subscribePacket, uint16 } from '../support/raw-client.js';
import { connectDevice, type OnFinished, until } from './gateway.js';

/** A PUBLISH that a client was sent. */
export interface ReceivedCommand {
  readonly payload: string;
  readonly topic: string;
  readonly packetId: number;
  readonly dup: boolean;
}

const publishType = 3;

const serverUnavailable = 3;

/**
 * Connects with a persistent session, unless told otherwise; requires CONNACK 0. As a device does, it comes again when its session
 * is out of reach: on a busy machine NATS may not answer in time.
 */
export async function openSubscriber(
  onFinished: OnFinished,
  port: number,
  device: Credentials,
  options: { clean?: boolean; clientId?: string } = {},
): Promise<{ client: RawClient; sessionPresent: boolean }> {
  let opened = await connectDevice(port, device, { clean: false, ...options });
  await until('its session is in reach', async () => {
    if (opened.code !== serverUnavailable) return true;
    opened.client.destroy();
    opened = await connectDevice(port, device, { clean: false, ...options });
    return false;
  });
  const { client, code, sessionPresent } = opened;
  onFinished(() => client.destroy());
  if (code !== 0) throw new Error(`CONNACK ${code}`);
  return { client, sessionPresent };
}

/** Subscribes to all commands of the device, and requires that it is granted. */
export async function subscribeToCommands(client: RawClient, device: Credentials, qos = 1): Promise<void> {
  client.send(subscribePacket(1, [[`cmd/${device.id}/#`, qos]]));
  const { type, body } = await client.next();
  if (type !== 9 || body[2] !== qos) throw new Error(`not the SUBACK: packet type ${type}, code ${body[2]}`);
}

/** The next command, acknowledged unless told otherwise. */
export async function nextCommand(
  client: RawClient,
  options: { acknowledge?: boolean } = {},
): Promise<ReceivedCommand> {
  const { type, flags, body } = await client.next();
  if (type !== publishType) throw new Error(`packet type ${type} instead of PUBLISH`);
  const topicEnd = 2 + body.readUInt16BE(0);
  const qos = (flags >> 1) & 3;
  const packetId = qos === 0 ? 0 : body.readUInt16BE(topicEnd);
  if (qos === 1 && options.acknowledge !== false) client.send(packet(0x40, uint16(packetId)));
  return {
    topic: body.subarray(2, topicEnd).toString(),
    payload: body.subarray(topicEnd + (qos === 0 ? 0 : 2)).toString(),
    packetId,
    dup: (flags & 8) !== 0,
  };
}

/** So many commands, acknowledged. */
export async function takeCommands(client: RawClient, count: number): Promise<ReceivedCommand[]> {
  const taken: ReceivedCommand[] = [];
  while (taken.length < count) taken.push(await nextCommand(client));
  return taken;
}

/** `1` to `count`. */
export const numbers = (count: number, first = 1): string[] =>
  Array.from({ length: count }, (_, index) => String(first + index));
