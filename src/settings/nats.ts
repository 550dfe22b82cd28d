import { ackLevels } from '../ack-level.js';
import { boolean, count, oneOf, port, setting, text, textOf } from './setting.js';

/** NATS and the stream. */
export const natsSettings = {
  natsUrl: setting({
    schema: text,
    secret: true,
    url: true,
    help: 'NATS servers, comma-separated; unset: a server already on 127.0.0.1:EMBEDDED_NATS_PORT, else an own nats-server child process',
  }),
  natsServerBin: setting({
    schema: text,
    help: 'The nats-server program of the embedded server; unset: PATH, then the cache of `svc-mqtt setup`, then a download',
  }),
  natsServerDownloadUrl: setting({
    schema: textOf({
      pattern:
        '^(?:https://[^/@\\s]+|http://(?:127\\.0\\.0\\.1|localhost|\\[::1\\])(?::\\d+)?)(?:/[^\\s]*)?$',
      description: 'an https:// URL without a password, or an http:// URL of this machine',
    }),
    help: 'Mirror of the directory with the release archive of nats-server and its SHA256SUMS, used when there is no nats-server program; unset: the official release on GitHub',
  }),
  embeddedNatsPort: setting({
    schema: port,
    default: 4222,
    help: 'Port on 127.0.0.1 of the embedded NATS server',
  }),
  natsUser: setting({
    schema: text,
    help: 'User name at NATS',
  }),
  natsPassword: setting({
    schema: text,
    secret: true,
    help: 'Password at NATS',
  }),
  natsToken: setting({
    schema: text,
    secret: true,
    help: 'Token at NATS',
  }),
  natsNkeyFile: setting({
    schema: text,
    help: 'File with the nkey seed for NATS',
  }),
  natsCredsFile: setting({
    schema: text,
    help: 'Credentials file (JWT and seed) for NATS',
  }),
  natsTlsCa: setting({
    schema: text,
    help: 'File with the certificate authority of the NATS servers; setting it requires TLS',
  }),
  natsTlsCert: setting({
    schema: text,
    help: 'File with the client certificate for NATS',
  }),
  natsTlsKey: setting({
    schema: text,
    help: 'File with the key of the client certificate for NATS',
  }),
  natsInboxPrefix: setting({
    schema: textOf({
      maxLength: 256,
      pattern: '^[A-Za-z0-9_-]+(?:\\.[A-Za-z0-9_-]+)*$',
      description: 'tokens of A–Z a–z 0–9 _ - with dots between',
    }),
    default: '_INBOX',
    help: 'First tokens of the subjects on which NATS answers; the user needs the permission to subscribe to all below it, and nobody else should have it',
  }),
  natsJetstreamDomain: setting({
    schema: textOf({
      pattern: '^[A-Za-z0-9_-]{1,255}$',
      description: '1 to 255 characters A–Z a–z 0–9 _ -',
    }),
    help: 'JetStream domain that the stream is in, when NATS_URL leads to a leaf node of it; unset: that of the server itself',
  }),
  enableJetstream: setting({
    flag: 'jetstream',
    schema: boolean,
    default: true,
    help: 'Store in JetStream before acknowledging; false: core NATS, acknowledged when the NATS server has the message in memory',
    offHelp: 'Store nothing: core NATS, acknowledged when the NATS server has the message in memory',
  }),
  natsStream: setting({
    schema: textOf({
      pattern: '^[A-Za-z0-9_-]{1,255}$',
      description: '1 to 255 characters A–Z a–z 0–9 _ -',
    }),
    default: 'RAW',
    help: 'Stream to create when none covers the subject; an existing stream is never changed',
  }),
  natsSubject: setting({
    schema: textOf({ minLength: 1, maxLength: 256 }),
    default: 'raw.{id}',
    help: 'Subject of a device message, with {id}, {type} and {topic}',
  }),
  deadLetterSubject: setting({
    schema: textOf({
      maxLength: 256,
      pattern: '^[A-Za-z0-9-][A-Za-z0-9_-]*(?:\\.[A-Za-z0-9_-]+)*$',
      description: 'tokens of A–Z a–z 0–9 _ - with dots between',
    }),
    help: 'NATS subject for what devices may not publish or what can never be stored, such as dead.letters, with reason, topic and device as headers; at most 10 a second of a device and 100 in all; the user needs the permission to publish to it; unset: it is not kept',
  }),
  deviceEvents: setting({
    schema: boolean,
    default: false,
    help: 'Tell services by NATS what becomes of devices, as CloudEvents on event.device.<id>.<kind>: connected, disconnected, refused, and provisioned, revoked and the like; the user needs the permission to publish to event.device.>',
  }),
  traceContext: setting({
    schema: oneOf('pass', 'make'),
    default: 'pass',
    help: 'pass: traceparent and tracestate, which clients of MQTT 5 give as User Properties, are headers of the NATS message; make: a message without traceparent is given a new one, those of MQTT 3 too',
  }),
  natsIngest: setting({
    schema: oneOf('auto', 'batch', 'plain'),
    default: 'auto',
    help: 'auto: what waits is stored in atomic batches where the stream has allow_atomic and batches prove quicker, as on a NATS that syncs always; batch: whatever the time it takes; plain: one confirmation a message. A stream that svc-mqtt creates has allow_atomic with auto on NATS 2.15, with batch from 2.12 on; servers below 2.12 then do not serve it',
  }),
  ackLevel: setting({
    schema: oneOf(...ackLevels),
    default: 'stored',
    help: 'What PUBACK and PUBREC promise: stored, the stream has the message; replicated, on three servers or more; synced, every server that stores it has it on disk before it answers. Where that does not hold or cannot be known, serve does not start',
  }),
  ackLevelOnBreach: setting({
    schema: oneOf('refuse', 'warn'),
    default: 'refuse',
    help: 'When ACK_LEVEL does not hold: refuse to start, and acknowledge nothing while it runs; or warn and go on',
  }),
  natsMonitorUrl: setting({
    schema: textOf({
      pattern: '^https?://[^/@\\s,]+(?:/[^\\s,]*)?(?:,https?://[^/@\\s,]+(?:/[^\\s,]*)?)*$',
      description: 'http://host:8222, several separated by commas',
    }),
    help: 'Monitoring ports of all NATS servers, comma-separated (http://host:8222): they say whether a server syncs before it answers',
  }),
  natsSyncAlways: setting({
    schema: boolean,
    default: false,
    help: 'Take it as said that every NATS server has sync_interval: always, where no server can be asked; nothing checks it',
  }),
  publishTimeoutSec: setting({
    schema: count(1, 600),
    default: 5,
    help: 'After so long without a store confirmation NATS is late: its stream is sent no more than a message at a time. A message is sent again when it is lost, and after six times this in any case',
  }),
} as const;
