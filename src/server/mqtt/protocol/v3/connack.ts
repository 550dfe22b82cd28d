/** CONNACK (MQTT 3.1.1 §3.2). Session present is 0 with every code but 0, accepted [MQTT-3.2.2-4]. */
export function encodeConnack(code: 0 | 1 | 2 | 3 | 4 | 5, sessionPresent: boolean): Buffer {
  return Buffer.from([0x20, 2, sessionPresent && code === 0 ? 1 : 0, code]);
}
