import type { Config } from '../../../config.js';
import { readDurationMs } from '../../../duration.js';
import type { Codec, ConnackProperties, Connect } from '../protocol/codec.js';

/** The settings that bound what a client asks for in CONNECT. */
export type TermsConfig = Pick<
  Config,
  | 'maxSessionExpiry'
  | 'maxKeepaliveSec'
  | 'maxTopicAliases'
  | 'maxInFlightPerClient'
  | 'maxExchangesPerClient'
>;

/** What client and server have agreed on in CONNECT and CONNACK (MQTT 5.0 §3.1.2.11, §3.2.2.3). */
export interface Terms {
  /** 0: the session ends with the connection; infinite: it never expires. */
  readonly sessionExpirySec: number;
  /** 0: none. */
  readonly keepaliveSec: number;
  /** QoS 1 and 2 messages that the client may have sent and that are not answered. */
  readonly receiveMaximum: number;
  /** Topic aliases that the client may give. */
  readonly topicAliasMaximum: number;
}

/** What a client gets of what it asks for. A version that cannot tell it what it gets, gets what it asks for. */
export function agreeOn(connect: Connect, { explains }: Codec, config: TermsConfig): Terms {
  const maxExpirySec = maxSessionExpirySec(config);
  const sessionExpirySec = Math.min(connect.sessionExpirySec, maxExpirySec);
  if (!explains)
    return {
      sessionExpirySec,
      keepaliveSec: connect.keepaliveSec,
      receiveMaximum: Number.POSITIVE_INFINITY,
      topicAliasMaximum: 0,
    };
  const { maxKeepaliveSec } = config;
  const keepsTooLong =
    maxKeepaliveSec > 0 && (connect.keepaliveSec === 0 || connect.keepaliveSec > maxKeepaliveSec);
  return {
    sessionExpirySec,
    keepaliveSec: keepsTooLong ? maxKeepaliveSec : connect.keepaliveSec,
    receiveMaximum: Math.min(config.maxInFlightPerClient, config.maxExchangesPerClient),
    topicAliasMaximum: config.maxTopicAliases,
  };
}

/** Longest that a session outlives its connection, seconds. */
export function maxSessionExpirySec({ maxSessionExpiry }: Pick<Config, 'maxSessionExpiry'>): number {
  const ms = maxSessionExpiry === undefined ? undefined : readDurationMs(maxSessionExpiry);
  return ms === undefined ? Number.POSITIVE_INFINITY : ms / 1_000;
}

/**
 * What CONNACK tells of the terms: what is other than asked for, and the bounds of this server.
 *
 * @param server.assignedClientId undefined when the client has named itself.
 * @param server.responseInformation where an answer may be sent to; undefined when the device may not subscribe there.
 */
export function connackOf(
  connect: Connect,
  terms: Terms,
  server: {
    readonly maxPacketBytes: number;
    readonly assignedClientId: string | undefined;
    readonly responseInformation: string | undefined;
  },
): ConnackProperties {
  const { sessionExpirySec, keepaliveSec } = terms;
  return {
    sessionExpirySec: sessionExpirySec === connect.sessionExpirySec ? undefined : sessionExpirySec,
    serverKeepaliveSec: keepaliveSec === connect.keepaliveSec ? undefined : keepaliveSec,
    receiveMaximum: terms.receiveMaximum,
    maxPacketBytes: server.maxPacketBytes,
    topicAliasMaximum: terms.topicAliasMaximum,
    assignedClientId: server.assignedClientId,
    responseInformation: connect.wantsResponseInformation ? server.responseInformation : undefined,
  };
}
