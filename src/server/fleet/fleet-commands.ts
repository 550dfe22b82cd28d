import type { CommandProgressJson } from '../../api/command.js';
import { type ClientProgress, sumOf } from '../../command-state.js';
import type { FleetCommands, LocalCommands } from '../live.js';
import type { Asking } from './asking.js';
import type { Identity } from './members.js';
import { answers } from './wire.js';

/**
 * How far the sessions of a device are with a command: as their records say, and, of clients that are connected, as the replica
 * says that has the connection, since a record is behind it.
 */
export function openFleetCommands(options: {
  own: Identity;
  local: LocalCommands;
  asking: Asking;
}): FleetCommands {
  const { own, local, asking } = options;

  return {
    async progress(deviceId, sequence): Promise<CommandProgressJson> {
      const { stream, command } = await local.find(deviceId, sequence);
      const { topic, qos, payload, storedAtMs, expiresAtMs } = command;
      const question = { device: deviceId, sequence, topic, qos, expires_at_ms: expiresAtMs ?? null };
      const [stored, told] = await Promise.all([
        local.stored(deviceId, command),
        asking.askAll('command', question, answers.command),
      ]);
      const sessions = new Map<string, ClientProgress & { replica: string | null }>();
      for (const session of stored) sessions.set(session.client, { ...session, replica: null });
      const add = (replica: string, found: readonly ClientProgress[]) => {
        for (const each of found) {
          // Of two replicas of which one has not heard yet that the client has moved.
          if (each.connected || sessions.get(each.client)?.connected !== true)
            sessions.set(each.client, { ...each, replica });
        }
      };
      for (const { member, answer } of told) if (answer !== undefined) add(member.replica, answer.sessions);
      add(own.replica, local.here(deviceId, command));
      const replicas = [asking.present(own), ...told.flatMap(({ shown }) => shown)];
      const rows = [...sessions.values()].sort((a, b) => (a.client < b.client ? -1 : 1));
      const state = sumOf(rows.map((each) => each.state));
      // One that does not answer may have a client without a session.
      const isPartial = state === 'unclaimed' && replicas.some(({ ok }) => !ok);
      return {
        device: deviceId,
        stream,
        sequence,
        topic,
        bytes: payload.length,
        qos,
        stored_at: new Date(storedAtMs).toISOString(),
        expires_at: expiresAtMs === undefined ? null : new Date(expiresAtMs).toISOString(),
        state: isPartial ? 'unknown' : state,
        sessions: rows.map(({ client, state, qos, connected, replica }) => ({
          client,
          state,
          qos,
          connected,
          replica,
        })),
        replicas,
      };
    },
  };
}
