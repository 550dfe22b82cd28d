/** Return codes of CONNACK (MQTT 3.1.1 §3.2.2.3). */
export const ConnectReturnCode = {
  accepted: 0,
  unacceptableProtocolVersion: 1,
  identifierRejected: 2,
  serverUnavailable: 3,
  badUserNameOrPassword: 4,
  notAuthorized: 5,
} as const;

export type ConnectReturnCode = (typeof ConnectReturnCode)[keyof typeof ConnectReturnCode];

/** Session present is 0 with every code but `accepted` [MQTT-3.2.2-4]. */
export function encodeConnack(code: ConnectReturnCode, sessionPresent = false): Buffer {
  return Buffer.from([0x20, 2, sessionPresent && code === 0 ? 1 : 0, code]);
}
