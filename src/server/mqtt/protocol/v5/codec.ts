import { type CloseReason, closeReasons, type Reason } from '../close-reason.js';
import type { Codec, Connect } from '../codec.js';
import { decodePublish } from '../decode-publish.js';
import { checkFlags } from '../fixed-header.js';
import {
  decodeAcknowledge,
  encodeAcknowledge,
  encodeReceipt,
  encodeSuback,
  encodeUnsuback,
} from './acknowledge.js';
import { encodeConnack, encodeRefusal } from './connack.js';
import { decodeDisconnect, encodeDisconnect } from './disconnect.js';
import { decodePublishProperties, encodePublish } from './publish.js';
import { isReasonOf, ReasonCode, ReasonPlace } from './reason-codes.js';
import { decodeSubscribe, decodeUnsubscribe } from './subscribe.js';

/**
 * The codec of MQTT 5.0 for a client that takes packets up to so many bytes: Reason Strings and User Properties that would
 * make an answer larger are left out, as they are from acknowledgements when it wants none [MQTT-3.1.2-29].
 */
export function codecFor(client: Pick<Connect, 'maxPacketBytes' | 'wantsProblemInformation'>): Codec {
  const { maxPacketBytes, wantsProblemInformation } = client;
  return maxPacketBytes === Number.POSITIVE_INFINITY && wantsProblemInformation
    ? codec5
    : createCodec(maxPacketBytes, wantsProblemInformation);
}

function createCodec(maxPacketBytes: number, wantsProblemInformation: boolean): Codec {
  return {
    explains: true,
    checkFlags: (firstByte) => checkFlags(firstByte, 5),
    decodePublish: (packet, bodyOffset) => decodePublish(packet, bodyOffset, 5),
    decodePublishProperties,
    decodeAcknowledge,
    decodeSubscribe,
    decodeUnsubscribe,
    decodeDisconnect,
    encodeConnack: (sessionPresent, properties) => encodeConnack(sessionPresent, properties, maxPacketBytes),
    codeOf,
    encodeRefusal(reason) {
      const code = codeOf(reason, 'connack');
      if (code === undefined) return undefined;
      const connack = encodeRefusal(code, closeReasons[reason].why, maxPacketBytes);
      return connack.length > maxPacketBytes ? undefined : connack; // [MQTT-3.1.2-24]
    },
    encodeAcknowledge: (type, packetId, reasonCode, details) =>
      encodeAcknowledge(
        type,
        packetId,
        reasonCode,
        wantsProblemInformation ? details : undefined,
        maxPacketBytes,
      ),
    encodeReceipt: (type, packetId, receipt) =>
      wantsProblemInformation
        ? encodeReceipt(type, packetId, receipt, maxPacketBytes)
        : encodeAcknowledge(type, packetId),
    encodePublish,
    encodeSuback,
    encodeUnsuback,
    encodeDisconnect(reason, reasonString) {
      const code = codeOf(reason, 'disconnect');
      return code === undefined ? undefined : encodeDisconnect(code, reasonString, maxPacketBytes);
    },
  };
}

/** The codec of every client that names no limit, and of a CONNECT that cannot be read. */
export const codec5: Codec = createCodec(Number.POSITIVE_INFINITY, true);

/** What stands for a code that a packet does not have. PUBACK has none for a packet that is too large (§3.4.2.1). */
const places = {
  connack: { codes: ReasonPlace.connack, otherwise: ReasonCode.unspecifiedError },
  puback: { codes: ReasonPlace.received, otherwise: ReasonCode.quotaExceeded },
  disconnect: { codes: ReasonPlace.serverDisconnect, otherwise: ReasonCode.unspecifiedError },
};

function codeOf(reason: CloseReason, packet: keyof typeof places): number | undefined {
  const { code }: Reason = closeReasons[reason];
  const { codes, otherwise } = places[packet];
  return code === undefined || isReasonOf(code, codes) ? code : otherwise;
}
