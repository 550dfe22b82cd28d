import type { Config } from '../../config.js';
import type { StreamInspection } from '../../server/forward/stream/inspect-nats.js';
import { formatCount } from '../terminal/text.js';
import type { Check } from './finding.js';

const fullShare = 0.95;
const nearlyFullShare = 0.8;

/** What a stream that takes the messages of devices does with them. */
export function checkStreamState(
  check: Check,
  stream: StreamInspection,
  needed: string,
  config: Pick<Config, 'maxPacketBytes'>,
): void {
  const { warning, problem, findings } = check;
  const { name } = stream;
  const found = findings.length;
  if (stream.sealed)
    problem(`Stream ${name} is sealed and takes no messages`, 'Make another stream for the subject');
  if (stream.noAck)
    problem(`Stream ${name} has no_ack set and confirms no message`, `Run: nats stream edit ${name} --ack`);
  if (!stream.hasLeader) problem(`Stream ${name} has no leader`, 'Bring back the servers of its cluster');
  if (stream.lagging.length > 0)
    warning(
      `Replicas of stream ${name} lag or are away: ${stream.lagging.join(', ')}`,
      'Bring them back before another one fails',
    );
  if (stream.inMemory)
    warning(
      `Stream ${name} keeps messages in memory: acknowledged ones are lost when its server ends`,
      'Make it anew with file storage',
    );
  if (stream.retention !== 'limits')
    warning(
      stream.retention === 'interest'
        ? `Stream ${name} keeps messages for consumers that exist only (retention: interest)`
        : `Stream ${name} forgets a message once it is consumed (retention: workqueue)`,
      'If readers come and go, make it anew with retention: limits',
    );
  if (stream.maxMessageBytes !== undefined && stream.maxMessageBytes < config.maxPacketBytes)
    warning(
      `Stream ${name} takes messages of at most ${describeBytes(stream.maxMessageBytes)}, less than MAX_PACKET_BYTES`,
      'Lower MAX_PACKET_BYTES or raise max_msg_size: larger packets close the connection',
    );
  checkFill(check, stream);
  if (findings.length === found)
    check.ok(`Stream ${name} takes ${needed} and holds ${describeContents(stream)}`);
}

function checkFill({ warning, problem }: Check, stream: StreamInspection): void {
  const { name, messages, maxMessages, bytes, maxBytes, discardsOld } = stream;
  const share = Math.max(
    maxBytes === undefined ? 0 : bytes / maxBytes,
    maxMessages === undefined ? 0 : messages / maxMessages,
  );
  if (discardsOld && (maxBytes !== undefined || maxMessages !== undefined)) {
    const unread =
      share > nearlyFullShare ? 'and is nearly full: the oldest messages go now' : 'at which the oldest go';
    warning(
      `Stream ${name} holds ${describeContents(stream)}, a limit ${unread}, read or not (discard: old)`,
      'See that readers keep up; with discard: new devices wait instead',
    );
  } else if (share > nearlyFullShare) {
    const find = share > fullShare ? problem : warning;
    find(
      `Stream ${name} is ${Math.floor(share * 100)} % full: it holds ${describeContents(stream)}`,
      'Raise its limits or purge what was read: when it is full, messages are no longer acknowledged',
    );
  }
}

function describeContents(stream: StreamInspection): string {
  const { messages, maxMessages, bytes, maxBytes, maxAgeMs, replicas } = stream;
  const parts = [
    `${formatCount(messages, 'message')}${maxMessages === undefined ? '' : ` of ${maxMessages.toLocaleString('en-US')}`}`,
    `${describeBytes(bytes)}${maxBytes === undefined ? '' : ` of ${describeBytes(maxBytes)}`}`,
    ...(maxAgeMs === undefined ? [] : [`for at most ${describeAge(maxAgeMs)}`]),
    ...(replicas > 1 ? [`on ${replicas} servers`] : []),
  ];
  return parts.join(', ');
}

/** `1.5 MiB`. */
export function describeBytes(bytes: number): string {
  const units = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB'];
  let value = bytes;
  let unit = 0;
  while (value >= 1_024 && unit < units.length - 1) {
    value /= 1_024;
    unit += 1;
  }
  return `${unit === 0 ? value : Math.round(value * 10) / 10} ${units[unit]}`;
}

function describeAge(ms: number): string {
  const hours = ms / 3_600_000;
  if (hours >= 48) return `${Math.round(hours / 24)} days`;
  return hours >= 1 ? `${Math.round(hours * 10) / 10} h` : `${Math.round(ms / 1_000)} s`;
}
