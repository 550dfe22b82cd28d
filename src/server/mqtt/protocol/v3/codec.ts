import { type CloseReason, closeReasons, type Reason } from '../close-reason.js';
import type { Codec } from '../codec.js';
import { decodePublish } from '../decode-publish.js';
import { checkFlags } from '../fixed-header.js';
import { decodeAcknowledge, encodeAcknowledge, encodeSuback, encodeUnsuback } from './acknowledge.js';
import { encodeConnack } from './connack.js';
import { encodePublish } from './publish.js';
import { decodeSubscribe, decodeUnsubscribe } from './subscribe.js';

/** The codec of MQTT 3.1 (3) or 3.1.1 (4), which are alike but for some bits. */
function createCodec(version: 3 | 4): Codec {
  return {
    explains: false,
    checkFlags: (firstByte) => checkFlags(firstByte, version),
    decodePublish: (packet, bodyOffset) => decodePublish(packet, bodyOffset, version),
    decodePublishProperties: () => 'malformed-packet',
    decodeAcknowledge,
    decodeSubscribe: (packet, bodyOffset) => decodeSubscribe(packet, bodyOffset, version),
    decodeUnsubscribe,
    decodeDisconnect: (packet, bodyOffset) =>
      packet.length === bodyOffset ? { withWill: false, sessionExpirySec: undefined } : 'malformed-packet',
    // In MQTT 3.1 the byte of the session is reserved.
    encodeConnack: (sessionPresent) => encodeConnack(0, sessionPresent && version === 4),
    codeOf: (reason, packet) => (packet === 'connack' ? returnCodeOf(reason) : undefined),
    encodeRefusal(reason) {
      const code = returnCodeOf(reason);
      return code === undefined ? undefined : encodeConnack(code, false);
    },
    encodeAcknowledge: (type, packetId) => encodeAcknowledge(type, packetId),
    encodeReceipt: (type, packetId) => encodeAcknowledge(type, packetId),
    encodePublish,
    encodeSuback: (packetId, codes, requests) => encodeSuback(packetId, codes, requests, version),
    encodeUnsuback: (packetId) => encodeUnsuback(packetId),
    encodeDisconnect: () => undefined,
  };
}

function returnCodeOf(reason: CloseReason): Reason['connack3'] {
  const { connack3 }: Reason = closeReasons[reason];
  return connack3;
}

export const codecs3: Readonly<Record<3 | 4, Codec>> = { 3: createCodec(3), 4: createCodec(4) };
