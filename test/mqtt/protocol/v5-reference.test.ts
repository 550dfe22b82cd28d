import { createRequire } from 'node:module';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import type { UserProperties } from '../../../src/server/mqtt/protocol/codec.js';
import { codec5 } from '../../../src/server/mqtt/protocol/v5/codec.js';
import { decodeConnect5 } from '../../../src/server/mqtt/protocol/v5/connect.js';
import { isReasonOf, ReasonCode, ReasonPlace } from '../../../src/server/mqtt/protocol/v5/reason-codes.js';

/** The codec of MQTT.js: what it writes is read here, and what is written here it reads. */
const { generate, parser } = createRequire(createRequire(import.meta.url).resolve('mqtt'))('mqtt-packet') as {
  generate(packet: object, options: { protocolVersion: 5 }): Buffer;
  parser(options: { protocolVersion: 5 }): {
    on(event: 'packet' | 'error', listener: (value: never) => void): void;
    parse(bytes: Buffer): number;
  };
};

/** Its names of the properties. */
const referenceNames: Readonly<Record<string, string>> = {
  isText: 'payloadFormatIndicator',
  expirySec: 'messageExpiryInterval',
  subscriptionId: 'subscriptionIdentifier',
  sessionExpirySec: 'sessionExpiryInterval',
  maxPacketBytes: 'maximumPacketSize',
  wantsResponseInformation: 'requestResponseInformation',
  wantsProblemInformation: 'requestProblemInformation',
  willDelaySec: 'willDelayInterval',
  maximumQos: 'maximumQoS',
  assignedClientId: 'assignedClientIdentifier',
  serverKeepaliveSec: 'serverKeepAlive',
};

/** It groups User Properties by name, so that of their order only that of each name is left. */
function group(pairs: UserProperties): Record<string, string[]> {
  const groups: Record<string, string[]> = {};
  for (const [name, value] of pairs) {
    groups[name] ??= [];
    groups[name].push(value);
  }
  return groups;
}

/** The same, with the User Properties in the order in which it writes them. */
function ordered<T extends { readonly userProperties?: UserProperties | undefined }>(values: T): T {
  if (values.userProperties === undefined) return values;
  const groups = Object.entries(group(values.userProperties));
  return { ...values, userProperties: groups.flatMap(([name, all]) => all.map((value) => [name, value])) };
}

function toReference(values: object): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(values).map(([name, value]) => {
      if (name === 'userProperties') return [name, group(value as UserProperties)];
      return [referenceNames[name] ?? name, value === Number.POSITIVE_INFINITY ? 0xffff_ffff : value];
    }),
  );
}

/** What it reads, with the User Properties as `group` has them. */
function readByReference(bytes: Buffer): Record<string, unknown> {
  const packets: { properties?: Record<string, unknown> }[] = [];
  const reader = parser({ protocolVersion: 5 });
  reader.on('packet', (packet) => packets.push(packet));
  reader.on('error', (error) => {
    throw error;
  });
  reader.parse(bytes);
  expect(packets).toHaveLength(1);
  const [{ properties = {}, ...packet } = {}] = packets;
  const { userProperties } = properties;
  if (userProperties !== undefined) {
    properties.userProperties = Object.fromEntries(
      Object.entries(userProperties as object).map(([name, value]) => [name, [value].flat()]),
    );
  }
  return { ...packet, properties };
}

function generateBy(packet: object): { packet: Buffer; bodyOffset: number } {
  const bytes = generate(packet, { protocolVersion: 5 });
  let bodyOffset = 1;
  while ((bytes[bodyOffset] as number) >= 0x80) bodyOffset += 1;
  return { packet: bytes, bodyOffset: bodyOffset + 1 };
}

const text = (maxLength = 30): fc.Arbitrary<string> =>
  fc.string({ unit: 'grapheme', maxLength }).filter((value) => !value.includes('\0') && value.isWellFormed());
const bytes = (maxLength = 300): fc.Arbitrary<Buffer> =>
  fc.uint8Array({ maxLength }).map((array) => Buffer.from(array));
const uint16 = fc.nat(65_535);
const positive16 = fc.integer({ min: 1, max: 65_535 });
const uint32 = fc.nat(0xffff_ffff);
const lifetime = fc.oneof(
  uint32.filter((value) => value < 0xffff_ffff),
  fc.constant(Number.POSITIVE_INFINITY),
);
const qos = fc.constantFrom(0 as const, 1 as const, 2 as const);
const topic = text().map((value) => `t${value.replace(/[+#]/g, '')}`);
const filter = fc
  .array(
    fc.oneof(
      fc.constantFrom('+', '', 'é'),
      text().map((value) => value.replace(/[+#/$]/g, '')),
    ),
    {
      minLength: 1,
      maxLength: 5,
    },
  )
  .map((levels) => levels.join('/'))
  .filter((value) => value !== '');
/** It takes an empty value for none. */
const userProperties = fc.array(
  fc.tuple(
    fc.oneof(
      fc.constantFrom('ka', 'kb'),
      text().map((value) => `k${value}`),
    ),
    text().map((value) => `v${value}`),
  ),
  { minLength: 1, maxLength: 8 },
);
/** Any of these properties. */
function some<T extends object>(
  model: { [Name in keyof T]: fc.Arbitrary<T[Name]> },
): fc.Arbitrary<Partial<T>> {
  return fc.record(model, { requiredKeys: [] }) as unknown as fc.Arbitrary<Partial<T>>;
}
const codeOf = (place: ReasonPlace): fc.Arbitrary<number> =>
  fc.constantFrom(...Object.values(ReasonCode).filter((code) => isReasonOf(code, place)));

const messageModel = {
  isText: fc.boolean(),
  expirySec: uint32,
  contentType: text(),
  responseTopic: topic,
  correlationData: bytes(),
  userProperties,
};
const message = some(messageModel);

it('reads CONNECT', () => {
  const settings = some({
    sessionExpirySec: lifetime,
    receiveMaximum: positive16,
    maxPacketBytes: fc.integer({ min: 1, max: 0xffff_ffff }),
    topicAliasMaximum: uint16,
    wantsResponseInformation: fc.boolean(),
    wantsProblemInformation: fc.boolean(),
    userProperties,
    authenticationMethod: text(),
  });
  const will = fc.record({
    topic,
    payload: bytes().map((payload) => Buffer.from(payload.toString())),
    qos,
    retain: fc.boolean(),
    properties: message,
    delaySec: fc.option(uint32, { nil: undefined }),
  });
  const connect = fc.record({
    clientId: text().map((value) => `c${value}`),
    cleanStart: fc.boolean(),
    keepaliveSec: uint16,
    userName: text(),
    password: fc.option(bytes(), { nil: undefined }),
    will: fc.option(will, { nil: undefined }),
  });
  fc.assert(
    fc.property(connect, settings, (fields, properties) => {
      const { clientId, cleanStart, keepaliveSec, userName, password } = fields;
      const { packet, bodyOffset } = generateBy({
        cmd: 'connect',
        protocolVersion: 5,
        clientId,
        clean: cleanStart,
        keepalive: keepaliveSec,
        username: userName,
        password,
        properties: toReference(properties),
        will: fields.will && {
          ...fields.will,
          properties: toReference({ ...fields.will.properties, willDelaySec: fields.will.delaySec }),
        },
      });
      const isPlain = fields.will !== undefined && Object.keys(fields.will.properties).length === 0;
      expect(decodeConnect5(packet, bodyOffset + 7)).toEqual({
        version: 5,
        sessionExpirySec: 0,
        receiveMaximum: 65_535,
        maxPacketBytes: Number.POSITIVE_INFINITY,
        topicAliasMaximum: 0,
        wantsResponseInformation: false,
        wantsProblemInformation: true,
        userProperties: [],
        authenticationMethod: undefined,
        ...ordered(properties),
        ...fields,
        will: fields.will && {
          ...fields.will,
          delaySec: fields.will.delaySec ?? 0,
          properties: isPlain ? undefined : ordered(fields.will.properties),
        },
      });
    }),
  );
});

it('reads PUBLISH', () => {
  const properties = some({
    ...messageModel,
    topicAlias: positive16,
  });
  const publish = fc.record({ topic, payload: bytes(), qos, retain: fc.boolean(), messageId: positive16 });
  fc.assert(
    fc.property(publish, properties, (fields, values) => {
      const { packet, bodyOffset } = generateBy({
        cmd: 'publish',
        ...fields,
        properties: toReference(values),
      });
      const decoded = codec5.decodePublish(packet, bodyOffset);
      if (typeof decoded === 'string') throw new Error(decoded);
      expect(packet.toString('utf8', decoded.topicStart, decoded.topicEnd)).toBe(fields.topic);
      expect(decoded).toMatchObject({
        qos: fields.qos,
        retain: fields.retain,
        packetId: fields.qos === 0 ? 0 : fields.messageId,
        payload: fields.payload,
      });
      const { propertiesStart, propertiesEnd } = decoded;
      expect(codec5.decodePublishProperties(packet, propertiesStart, propertiesEnd)).toEqual(ordered(values));
    }),
  );
});

const details = some({
  reasonString: text(),
  userProperties,
});
const acknowledgements = [
  ['puback', 4, ReasonPlace.received],
  ['pubrec', 5, ReasonPlace.received],
  ['pubrel', 6, ReasonPlace.released],
  ['pubcomp', 7, ReasonPlace.released],
] as const;

it.each(acknowledgements)('reads and writes %s', (cmd, type, place) => {
  fc.assert(
    fc.property(positive16, codeOf(place), details, (packetId, reasonCode, values) => {
      const { packet, bodyOffset } = generateBy({
        cmd,
        messageId: packetId,
        reasonCode,
        properties: toReference(values),
      });
      expect(codec5.decodeAcknowledge(packet, bodyOffset)).toEqual({ packetId, reasonCode });
      expect(readByReference(codec5.encodeAcknowledge(type, packetId, reasonCode, values))).toMatchObject({
        cmd,
        messageId: packetId,
        reasonCode,
        properties: toReference(values),
      });
    }),
  );
});

it('reads SUBSCRIBE and UNSUBSCRIBE', () => {
  const request = fc.record({
    filter,
    qos,
    noLocal: fc.boolean(),
    retainAsPublished: fc.boolean(),
    retainHandling: fc.constantFrom(0, 1, 2),
  });
  const properties = some({
    subscriptionId: fc.integer({ min: 1, max: 268_435_455 }),
    userProperties,
  });
  fc.assert(
    fc.property(positive16, fc.array(request, { minLength: 1 }), properties, (packetId, requests, values) => {
      const subscribe = generateBy({
        cmd: 'subscribe',
        messageId: packetId,
        subscriptions: requests.map((each) => ({
          topic: each.filter,
          qos: each.qos,
          nl: each.noLocal,
          rap: each.retainAsPublished,
          rh: each.retainHandling,
        })),
        properties: toReference(values),
      });
      expect(codec5.decodeSubscribe(subscribe.packet, subscribe.bodyOffset)).toEqual({
        packetId,
        requests,
        subscriptionId: values.subscriptionId,
      });
      const filters = requests.map((each) => each.filter);
      const { subscriptionId: _, ...rest } = values;
      const unsubscribe = generateBy({
        cmd: 'unsubscribe',
        messageId: packetId,
        unsubscriptions: filters,
        properties: toReference(rest),
      });
      expect(codec5.decodeUnsubscribe(unsubscribe.packet, unsubscribe.bodyOffset)).toEqual({
        packetId,
        filters,
      });
    }),
  );
});

it('reads DISCONNECT and AUTH', () => {
  const properties = some({
    sessionExpirySec: lifetime,
    reasonString: text(),
    userProperties,
  });
  fc.assert(
    fc.property(codeOf(ReasonPlace.clientDisconnect), properties, (reasonCode, values) => {
      const { packet, bodyOffset } = generateBy({
        cmd: 'disconnect',
        reasonCode,
        properties: toReference(values),
      });
      expect(codec5.decodeDisconnect(packet, bodyOffset)).toEqual({
        withWill: reasonCode !== 0,
        sessionExpirySec: values.sessionExpirySec,
      });
    }),
  );
});

it('writes CONNACK', () => {
  const properties = some({
    sessionExpirySec: lifetime,
    receiveMaximum: positive16,
    maximumQos: fc.constantFrom(0 as const, 1 as const),
    retainAvailable: fc.boolean(),
    maxPacketBytes: uint32,
    assignedClientId: text(),
    topicAliasMaximum: uint16,
    reasonString: text(),
    wildcardSubscriptionAvailable: fc.boolean(),
    subscriptionIdentifiersAvailable: fc.boolean(),
    sharedSubscriptionAvailable: fc.boolean(),
    serverKeepaliveSec: uint16,
    responseInformation: text(),
    userProperties,
  });
  fc.assert(
    fc.property(fc.boolean(), properties, (sessionPresent, values) => {
      expect(readByReference(codec5.encodeConnack(sessionPresent, values))).toMatchObject({
        cmd: 'connack',
        sessionPresent,
        reasonCode: 0,
        properties: toReference(values),
      });
    }),
  );
});

it('writes PUBLISH', () => {
  const outgoing = fc.record({
    topic,
    payload: bytes(70_000),
    retain: fc.boolean(),
    properties: fc.option(message, { nil: undefined }),
    subscriptionIds: fc.uniqueArray(fc.integer({ min: 1, max: 268_435_455 }), { maxLength: 3 }),
  });
  const delivery = fc.record({
    qos,
    packetId: positive16,
    dup: fc.boolean(),
    alias: fc.option(fc.record({ number: positive16, isNew: fc.boolean() }), { nil: undefined }),
  });
  fc.assert(
    fc.property(outgoing, delivery, (what, how) => {
      const isRepeated = how.qos > 0 && how.dup;
      const { subscriptionIds: ids, alias = undefined } = { ...what, ...how };
      const properties = toReference(what.properties ?? {});
      if (alias !== undefined) properties.topicAlias = alias.number;
      if (ids.length > 0) properties.subscriptionIdentifier = ids.length === 1 ? ids[0] : ids;
      const read = readByReference(codec5.encodePublish(what, { ...how, dup: isRepeated }));
      expect(read).toMatchObject({
        cmd: 'publish',
        topic: alias?.isNew === false ? '' : what.topic,
        payload: what.payload,
        retain: what.retain,
        qos: how.qos,
        dup: isRepeated,
        ...(how.qos > 0 ? { messageId: how.packetId } : {}),
      });
      expect(read.properties).toEqual(properties);
    }),
  );
});

it('writes SUBACK, UNSUBACK and DISCONNECT', () => {
  const subackCodes = fc.array(codeOf(ReasonPlace.suback), { minLength: 1, maxLength: 200 });
  const unsubackCodes = fc.array(codeOf(ReasonPlace.unsuback), { minLength: 1, maxLength: 200 });
  fc.assert(
    fc.property(positive16, subackCodes, unsubackCodes, (messageId, granted, ended) => {
      expect(readByReference(codec5.encodeSuback(messageId, granted, []))).toMatchObject({
        cmd: 'suback',
        messageId,
        granted,
      });
      expect(readByReference(codec5.encodeUnsuback(messageId, ended))).toMatchObject({
        cmd: 'unsuback',
        messageId,
        granted: ended,
      });
    }),
  );
  fc.assert(
    fc.property(text(), (reasonString) => {
      expect(readByReference(codec5.encodeDisconnect('kicked', reasonString) as Buffer)).toMatchObject({
        cmd: 'disconnect',
        reasonCode: 0x98,
        properties: { reasonString },
      });
    }),
  );
});
