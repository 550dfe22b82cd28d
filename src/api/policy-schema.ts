import Type from 'typebox';
import { ackLevels } from '../ack-level.js';
import { fieldPatterns, maxDeviceTypeLength } from '../db/devices/device-fields.js';
import {
  maxPublishRate,
  maxSubjectLength,
  maxTemplates,
  minPacketBytes,
  mostPacketBytes,
  refusalRules,
} from '../policy.js';
import { subjectTemplatePattern } from '../subject-template.js';
import { defaultTemplates, topicTemplatePattern } from '../topic-template.js';
import { closed, optional, orNull, page, pageQuery, refer } from './schema.js';

const type = Type.String({
  minLength: 1,
  maxLength: maxDeviceTypeLength,
  description: 'The type of the devices that the policy is for',
  examples: ['sensor'],
});

const publish = {
  maxItems: maxTemplates,
  description: 'Topics to publish to, as MQTT filters with `{id}` and `{type}`; none: nothing',
  examples: [defaultTemplates.publish],
};
const subscribe = {
  maxItems: maxTemplates,
  description: 'Filters to subscribe to, in the same form; none: nothing',
  examples: [defaultTemplates.subscribe],
};
const publishRate = Type.Integer({
  minimum: 1,
  maximum: maxPublishRate,
  description: 'Messages per second of one device; over it the device is read more slowly',
});
const maxPacketBytes = Type.Integer({
  minimum: minPacketBytes,
  maximum: mostPacketBytes,
  description: 'Largest packet, where it is less than MAX_PACKET_BYTES; a larger one closes the connection',
});
const natsSubject = Type.String({
  minLength: 1,
  description: 'Subject of the messages, with `{id}`, `{type}` and `{topic}`',
  examples: ['raw.{id}'],
});

const ackLevel = Type.Enum([...ackLevels], {
  description:
    'What an acknowledgement is to be worth; where it does not hold, messages are not acknowledged',
});

const onRefusal = Type.Enum([...refusalRules], {
  description:
    'What a client of MQTT 5 learns of a message that NATS refuses: `withhold`, nothing until it is stored; `answer`, the reason, and the message is given up',
});
const receipts = Type.Boolean({
  description: 'PUBACK and PUBREC say where a message is stored, to clients of MQTT 5',
});

const topics = (options: Type.TArrayOptions) =>
  Type.Array(Type.String({ pattern: topicTemplatePattern }), { ...options, uniqueItems: true });
const newSubject = Type.String({
  ...natsSubject,
  maxLength: maxSubjectLength,
  pattern: subjectTemplatePattern,
});

export const PolicyRequest = optional(
  {
    publish: topics(publish),
    subscribe: topics(subscribe),
    publish_rate: publishRate,
    max_packet_bytes: maxPacketBytes,
    nats_subject: newSubject,
    ack_level: ackLevel,
    on_refusal: onRefusal,
    receipts,
  },
  {
    $id: 'PolicyRequest',
    ...closed,
    examples: [{ publish: ['raw/{id}/#'], subscribe: ['cmd/{id}/#'], publish_rate: 50 }],
  },
);

/** What `PATCH /policies/{type}` takes. */
export const PolicyChangesRequest = optional(
  {
    publish: orNull(topics(publish)),
    subscribe: orNull(topics(subscribe)),
    publish_rate: orNull(publishRate),
    max_packet_bytes: orNull(maxPacketBytes),
    nats_subject: orNull(newSubject),
    ack_level: orNull(ackLevel),
    on_refusal: orNull(onRefusal),
    receipts: orNull(receipts),
  },
  {
    $id: 'PolicyChanges',
    description: 'What is left out stays as it is; null: as without a policy',
    ...closed,
    examples: [{ publish_rate: 50, nats_subject: null }],
  },
);

const policyFields = {
  type,
  publish: Type.Array(Type.String(), publish),
  subscribe: Type.Array(Type.String(), subscribe),
  publish_rate: orNull(publishRate),
  max_packet_bytes: orNull(maxPacketBytes),
  nats_subject: orNull(natsSubject),
  ack_level: orNull(ackLevel),
  on_refusal: orNull(onRefusal),
  receipts: orNull(receipts),
  created_at: Type.String({ format: 'date-time', description: 'When the type got a policy' }),
  updated_at: Type.String({ format: 'date-time', description: 'When the policy was last set' }),
};

export const PolicyResponse = Type.Object(policyFields, {
  $id: 'Policy',
  description: 'What devices of one type may do; null: the setting of the server',
  ...closed,
});

export const SetPolicyResponse = Type.Object(
  {
    ...policyFields,
    warnings: Type.Array(Type.String(), {
      description: 'What the policy allows that should be intended, each as a sentence',
    }),
  },
  { $id: 'SetPolicy', ...closed },
);

export const PolicyPage = page('PolicyPage', { policies: Type.Array(refer(PolicyResponse)) });

export const PolicyParams = Type.Object({ type: Type.String({ ...type, pattern: fieldPatterns.type }) });

export const PolicyListQuery = optional(pageQuery('policies'));
