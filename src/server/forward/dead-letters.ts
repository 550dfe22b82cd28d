import { messageOf, SvcMqttError } from '../../errors.js';
import type { Log } from '../../log.js';
import { findOtherUse, subjectsOfTemplate } from '../../subject-template.js';
import { withFastGetters } from '../fast-getters.js';
import { createTokenBuckets } from '../token-buckets.js';
import type { NatsLink } from './connection/nats-link.js';
import { type NatsWire, noWire } from './connection/nats-wire.js';
import { natsBytesOf } from './forwarder.js';
import { listStreams, manageStreams } from './stream/stream.js';
import { overlap } from './stream/subject-match.js';
import { percentEncode } from './subject.js';

/** A message that is not stored, and never will be. */
export interface DeadLetter {
  readonly device: string;
  readonly client: string;
  /** The version of MQTT, as people name it. */
  readonly protocol: string;
  readonly qos: number;
  /** The header block that it had, or would have had. */
  readonly headers: Uint8Array;
  /** Sent as it is. */
  readonly payload: Uint8Array;
  /** A word, as in the ledger. */
  readonly reason: string;
  /** The same in words. */
  readonly detail: string;
}

/** Why a dead letter was not sent, or that it was. */
export type DeadLetterResult = 'sent' | 'rate' | 'in-flight' | 'too-large' | 'nats-away';

/** Where refused messages go (DEAD_LETTER_SUBJECT). */
export type DeadLetters = ReturnType<typeof openDeadLetters>;

export const noDeadLetters: Readonly<Record<DeadLetterResult, number>> = {
  sent: 0,
  rate: 0,
  'in-flight': 0,
  'too-large': 0,
  'nats-away': 0,
};

/** Most dead letters a second, and as many at once: of a device, and of all. */
const perSecondOfDevice = 10;
const perSecondOfAll = 100;
const maxDevices = 10_000;
/** Bytes that NATS has not taken yet. */
const maxInFlightBytes = 4 * 1024 * 1024;

export function openDeadLetters({ link, subject }: { link: NatsLink; subject: string }) {
  const subjectBytes = Buffer.from(subject);
  const counts = { ...noDeadLetters };
  const ofDevice = createTokenBuckets({
    capacity: perSecondOfDevice,
    perSecond: perSecondOfDevice,
    maxKeys: maxDevices,
  });
  const ofAll = createTokenBuckets({ capacity: perSecondOfAll, perSecond: perSecondOfAll, maxKeys: 1 });
  let wire: NatsWire = noWire;
  let inFlightBytes = 0;

  link.listen({
    connected(_connection, newWire) {
      wire = newWire;
      inFlightBytes = 0;
    },
    disconnected() {
      wire = noWire;
    },
  });

  /** The bytes leave the bound when NATS has answered behind them. */
  function follow(bytes: number): void {
    const from = wire;
    inFlightBytes += bytes;
    void link.connection?.flush().then(
      () => {
        if (wire === from) inFlightBytes -= bytes;
      },
      () => {},
    );
  }

  function send(letter: DeadLetter): DeadLetterResult {
    if (!link.open) return 'nats-away';
    // The device first: what one sends too fast is not taken from the others.
    if (ofDevice.take(letter.device) > 0 || ofAll.take('') > 0) return 'rate';
    const { payload } = letter;
    const message = {
      subject: subjectBytes,
      headers: encodeDeadLetter(letter, new Date()),
      payload,
      messageId: undefined,
    };
    const bytes = natsBytesOf(message);
    if (bytes > wire.maxMessageBytes) return 'too-large';
    if (inFlightBytes + bytes > maxInFlightBytes) return 'in-flight';
    try {
      wire.publish(message);
    } catch {
      // The connection has ended in this turn.
      return 'nats-away';
    }
    wire.flush();
    follow(bytes);
    return 'sent';
  }

  return withFastGetters({
    counts: counts as Readonly<typeof counts>,
    /** Largest message that can go there, bytes: a stream may take less. */
    get maxMessageBytes(): number {
      return wire.maxMessageBytes;
    },
    /** Sends one to NATS, at most once, if the bounds allow; nobody waits for it. */
    keep(letter: DeadLetter): void {
      counts[send(letter)] += 1;
    },
  });
}

/** What no header carries as it is. */
const unfit = /[^\x21-\x24\x26-\x7e]/gu;

/** The header block of a dead letter: that of the message, without its time to live, and what became of it. */
function encodeDeadLetter(letter: DeadLetter, at: Date): Uint8Array {
  const { headers, device, client, protocol, qos, reason, detail } = letter;
  // A stream without allow_msg_ttl would refuse it.
  const block = Buffer.from(headers)
    .toString('utf8')
    .replace(/^Nats-TTL: .*\r\n/m, '');
  const lines =
    `Mqtt-Refused: ${reason}\r\nMqtt-Refused-Why: ${detail.replace(/[^\x20-\x7e]/g, '?')}\r\n` +
    `Mqtt-Refused-At: ${at.toISOString()}\r\nMqtt-Device: ${percentEncode(device, unfit)}\r\n` +
    `Mqtt-Client: ${percentEncode(client, unfit)}\r\nMqtt-Protocol: ${protocol}\r\nMqtt-Qos: ${qos}\r\n`;
  return Buffer.from(`${block.slice(0, -2)}${lines}\r\n`);
}

/** Why a subject cannot be DEAD_LETTER_SUBJECT, in words that follow it, or undefined. */
export function findDeadLetterProblem(
  subject: string,
  natsSubject: string,
  source = 'NATS_SUBJECT',
): string | undefined {
  const { needed } = subjectsOfTemplate(natsSubject);
  if (overlap(subject, needed))
    return `messages of devices go to ${needed} (${source}): what was refused would be taken for one of them`;
  return findOtherUse(subject);
}

/**
 * Looks which stream keeps dead letters, once, at the start: it warns where none does.
 *
 * @throws SvcMqttError CONFIG_INVALID when that of NATS_SUBJECT does, which is what may have refused them.
 */
export async function checkDeadLetterStream(options: {
  link: NatsLink;
  domain: string | undefined;
  subject: string;
  natsSubject: string;
  log: Log;
}): Promise<void> {
  const { link, domain, subject, natsSubject, log } = options;
  let reason = `no stream takes ${subject}`;
  try {
    const { connection } = link;
    if (connection === undefined) throw new Error('NATS is away');
    const manager = await manageStreams(connection, domain);
    const { covering } = await listStreams(manager, subject);
    const own = (await listStreams(manager, subjectsOfTemplate(natsSubject).needed)).covering;
    if (covering !== undefined && covering.config.name === own?.config.name)
      throw new SvcMqttError(
        'CONFIG_INVALID',
        `DEAD_LETTER_SUBJECT cannot be "${subject}": stream ${own.config.name} takes it, which stores what devices send`,
        { suggestion: 'Give it a subject of its own, such as dead.letters, and a stream for it' },
      );
    if (covering !== undefined) return;
  } catch (error) {
    if (error instanceof SvcMqttError && error.code === 'CONFIG_INVALID') throw error;
    reason = `whether a stream takes ${subject} is not known: ${messageOf(error)}`;
  }
  log.warn(
    { event: 'dead_letters_not_stored', subject, reason },
    'Refused messages reach only who subscribes to DEAD_LETTER_SUBJECT at that moment',
  );
}
