import { PacketType } from '../../server/mqtt/protocol/packet-type.js';
import { codecs3 } from '../../server/mqtt/protocol/v3/codec.js';
import { codec5 } from '../../server/mqtt/protocol/v5/codec.js';
import { type Reached, VisitEnded, type VisitOptions, visitMqtt } from './mqtt-visit.js';

/** How far one message of one device got. */
export type ProbeOutcome =
  | { readonly reached: 'acknowledged'; readonly timeMs: number }
  | { readonly reached: Reached; readonly why: string };

/** Connects as a device, publishes one message with QoS 1 and waits for its PUBACK. */
export async function probeMqtt(
  options: VisitOptions & { readonly topic: string; readonly payload: Buffer },
): Promise<ProbeOutcome> {
  const { topic, payload } = options;
  const codec = options.version === 5 ? codec5 : codecs3[4];
  try {
    const visit = await visitMqtt(options);
    const sentAtMs = performance.now();
    visit.send(
      codec.encodePublish({ topic, payload, retain: false }, { qos: 1, packetId: 1, dup: false }) as Buffer,
    );
    const puback = await visit.next(PacketType.PUBACK);
    const timeMs = performance.now() - sentAtMs;
    await visit.leave();
    // MQTT 5 leaves out a 0.
    const code = puback[4] ?? 0;
    return code === 0 ? { reached: 'acknowledged', timeMs } : { reached: 'logged-in', why: `PUBACK ${code}` };
  } catch (error) {
    if (!(error instanceof VisitEnded)) throw error;
    return { reached: error.reached, why: error.message };
  }
}
