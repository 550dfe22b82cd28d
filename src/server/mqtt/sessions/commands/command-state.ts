import type { SessionProgress } from '../../../../command-state.js';
import type { StoredCommand } from '../../../forward/commands/stored-command.js';
import { matches, sharePrefix } from '../../protocol/topics.js';
import type { SessionRecord } from '../store/session-record.js';

/** What of a session decides how far it is with a command. */
export type CommandReader = Pick<SessionRecord, 'subscriptions' | 'cursors' | 'unacked' | 'passed'>;

/** What of a command does. */
export type AskedCommand = Pick<StoredCommand, 'sequence' | 'topic' | 'qos' | 'expiresAtMs'>;

/**
 * How far a session is with a command, as far as its record says, or its replica knows; undefined: the command is not for it.
 *
 * @param incarnation of the stream that has the command.
 */
export function stateOf(
  command: AskedCommand,
  incarnation: string,
  { subscriptions, cursors, unacked, passed }: CommandReader,
): SessionProgress | undefined {
  const { sequence, topic, expiresAtMs } = command;
  // Of another stream nothing has been had, and all of it is new.
  const isSame = cursors.commandStream === undefined || cursors.commandStream === incarnation;
  const isSent = isSame && unacked.some((each) => each.stream === 'commands' && each.sequence === sequence);
  const granted = subscriptions.flatMap(({ name, qos, from }) =>
    !name.startsWith(sharePrefix) && (!isSame || sequence > from) && matches(name, topic) ? qos : [],
  );
  if (granted.length === 0 && !isSent) return undefined;
  const qos = Math.max(...granted, isSent ? 1 : 0) >= 1 && command.qos === 1 ? 1 : 0;
  if (isSent) return { state: 'sent', qos: 1 };
  if (!isSame || sequence > cursors.commands) {
    const isOver = expiresAtMs !== undefined && expiresAtMs <= Date.now();
    return { state: isOver ? 'expired' : 'queued', qos };
  }
  const stretch = passed?.stretches.find(([first, last]) => first <= sequence && sequence <= last);
  if (stretch !== undefined) return { state: stretch[2], qos };
  if (passed !== undefined && sequence <= passed.unknownTo) return { state: 'unknown', qos };
  // Who is sent it with QoS 0 acknowledges nothing.
  return { state: qos === 0 ? 'sent' : 'acknowledged', qos };
}
