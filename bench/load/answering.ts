import { openLink } from './link.js';
import {
  type Dialect,
  encodeConnect,
  encodePublish,
  encodeSubscribe,
  type Identity,
  openPacketCutter,
  publishOffsets,
  readResponse,
} from './packets.js';

/** Clients that answer at once what their devices are asked, with QoS 1. */
export function openAnswering(config: {
  port: number;
  identities: readonly Identity[];
  dialect?: Dialect | undefined;
}) {
  const { identities, dialect } = config;
  let subacks = 0;
  let packetId = 0;
  let onReady = () => {};

  function answer(bytes: Buffer): Buffer {
    const qos = ((bytes[0] ?? 0) >> 1) & 3;
    const at = publishOffsets(bytes, qos, dialect);
    const topic = bytes.toString('utf8', at.topic + 2, at.packetId);
    const payload = bytes.subarray(at.payload);
    // MQTT 5 names where to answer, 3.1.1 has the token in the topic: cmd/<id>/call/<token>/<what>.
    const response = dialect === '5' ? readResponse(bytes, at) : undefined;
    const [, id, , token] = topic.split('/');
    packetId = (packetId % 65_535) + 1;
    const reply = encodePublish(
      response?.topic ?? `raw/${id}/reply/${token}`,
      1,
      payload,
      dialect,
      response?.correlation,
    );
    reply.writeUInt16BE(packetId, publishOffsets(reply, 1, dialect).packetId);
    const puback = Buffer.from([0x40, 2, bytes[at.packetId] ?? 0, bytes[at.packetId + 1] ?? 0]);
    return qos === 0 ? reply : Buffer.concat([reply, puback]);
  }

  return {
    async connect(): Promise<void> {
      const ready = new Promise<void>((resolve) => {
        onReady = resolve;
      });
      for (const [index, identity] of identities.entries()) {
        const link = openLink(
          config.port,
          encodeConnect(identity, `bench-answer-${index}`, { dialect }),
          openPacketCutter((bytes) => {
            const type = (bytes[0] ?? 0) >> 4;
            if (type === 9) subacks += 1;
            if (subacks === identities.length) onReady();
            if (type === 3) link.socket.write(answer(bytes));
          }),
          () => {},
        );
        const code = await link.accepted;
        if (code !== 0) throw new Error(`a device was not let in: return code ${code}`);
        link.socket.write(encodeSubscribe(1, `cmd/${identity.id}/#`, 1, dialect));
      }
      await ready;
    },
  };
}
