import type { Config } from '../../config.js';
import { SvcMqttError } from '../../errors.js';
import { withStore } from '../store/open.js';
import type { Store } from '../store/store.js';
import type { CommandIo } from '../terminal/io.js';
import { deviceNotFound } from './show.js';

/**
 * The template of the NATS subject of a device: that of the policy of its type, else NATS_SUBJECT. It is looked up where
 * commands on devices work, and looking changes nothing there. When nothing can be looked up, that is told on stderr, and
 * NATS_SUBJECT taken.
 *
 * @throws SvcMqttError DEVICE_NOT_FOUND.
 */
export async function findSubjectTemplate(config: Config, id: string, io: CommandIo): Promise<string> {
  const choose = async ({ devices, policies }: Store) => {
    const device = await devices.find(id);
    if (device === undefined) throw deviceNotFound([id]);
    return (await policies.find(device.type))?.nats_subject ?? config.natsSubject;
  };
  try {
    return await withStore(config, io, choose, { looks: true, endsAtOnce: true });
  } catch (error) {
    if (!(error instanceof SvcMqttError) || error.code === 'DEVICE_NOT_FOUND') throw error;
    io.stderr.write(`${error.message}; taking its subject from NATS_SUBJECT.\n`);
    return config.natsSubject;
  }
}
