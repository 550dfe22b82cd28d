import type { ClientProgress } from '../../command-state.js';
import { SvcMqttError } from '../../errors.js';
import { within } from '../../time-limit.js';
import type { CommandStore } from '../forward/commands/command-store.js';
import type { StoredCommand } from '../forward/commands/stored-command.js';
import { escapeToken } from '../forward/subject.js';
import type { LocalCommands } from '../live.js';
import { type AskedCommand, stateOf } from '../mqtt/sessions/commands/command-state.js';
import { clientOfKey } from '../mqtt/sessions/store/session-key.js';
import type { SessionStore } from '../mqtt/sessions/store/session-store.js';
import { failOnStore, readEach } from './session-list.js';

const readWithinMs = 5_000;
/** Sessions of a device that are looked at. */
const maxSessions = 1_000;

/**
 * Follows stored commands to the sessions of their device.
 *
 * @param options.commands undefined: commands are not stored now.
 * @param options.here what this replica alone knows (`BrokerCore.commandProgress`).
 */
export function openCommandProgress(options: {
  commands(): CommandStore | undefined;
  sessions: Pick<SessionStore, 'keysOf' | 'load'>;
  here(deviceId: string, command: AskedCommand): ClientProgress[];
}): LocalCommands {
  const { sessions, here } = options;

  async function read(store: CommandStore, sequence: number): Promise<StoredCommand | undefined> {
    let isWanted = true;
    const reading = store.read([sequence], () => isWanted);
    const [command] = await within(readWithinMs, reading).catch((error: unknown) => {
      isWanted = false;
      const message = 'NATS: the command could not be read in time';
      throw new SvcMqttError('NATS_UNREACHABLE', message, { mayPass: true, cause: error });
    });
    return command;
  }

  async function load(key: string, incarnation: string, command: AskedCommand): Promise<ClientProgress[]> {
    const found = await sessions.load(key);
    if (found === undefined) return [];
    const { record } = found;
    const client = clientOfKey(key);
    if (typeof record === 'string') return [{ client, connected: false, state: 'unknown', qos: command.qos }];
    const progress = stateOf(command, incarnation, record);
    return progress === undefined ? [] : [{ client, connected: record.owner !== undefined, ...progress }];
  }

  return {
    async find(deviceId, sequence) {
      const commands = options.commands();
      if (commands === undefined)
        throw new SvcMqttError('COMMAND_NOT_FOUND', 'Commands are not stored, so that none can be followed');
      const { stream } = commands;
      const command = await read(commands, sequence);
      if (command === undefined && commands.isCaughtUp && sequence <= commands.end)
        throw new SvcMqttError(
          'COMMAND_GONE',
          `Stream ${stream} has no command ${sequence} any more: its limits have dropped it, or somebody deleted it`,
        );
      if (command?.device !== escapeToken(deviceId)) {
        const why =
          command === undefined
            ? `Stream ${stream} has no command ${sequence}`
            : `Command ${sequence} of stream ${stream} is for another device`;
        throw new SvcMqttError('COMMAND_NOT_FOUND', why);
      }
      return { stream, command };
    },

    here,

    async stored(deviceId, command) {
      const commands = options.commands();
      if (commands === undefined) return [];
      const keys = (await sessions.keysOf(deviceId).catch(failOnStore)).slice(-maxSessions);
      const { incarnation } = commands;
      return (await readEach(keys, (key) => load(key, incarnation, command)).catch(failOnStore)).flat();
    },
  };
}
