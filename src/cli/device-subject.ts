import type { Config } from '../config.js';
import { findDevice } from '../db/devices.js';
import { readMigrationStatus } from '../db/migrate.js';
import { findPolicy } from '../db/policies.js';
import { SvcMqttError } from '../errors.js';
import { withDatabase } from './database.js';
import { deviceNotFound } from './device-show.js';
import type { CommandIo } from './io.js';

/**
 * The template of the NATS subject of a device: that of the policy of its type, else NATS_SUBJECT. Looking makes no
 * embedded database and migrates none; when nothing can be looked up, that is told on stderr, and NATS_SUBJECT taken.
 *
 * @throws SvcMqttError DEVICE_NOT_FOUND.
 */
export async function findSubjectTemplate(config: Config, id: string, io: CommandIo): Promise<string> {
  const { natsSubject } = config;
  const tell = (why: string) => io.stderr.write(`${why}; taking its subject from NATS_SUBJECT.\n`);
  try {
    return await withDatabase(config, io, async (db) => {
      if ((await readMigrationStatus(db)).pending.length > 0) {
        tell(`The schema of ${db.where} is not up to date`);
        return natsSubject;
      }
      const device = await findDevice(db, id);
      if (device === undefined) throw deviceNotFound([id]);
      return (await findPolicy(db, device.type))?.natsSubject ?? natsSubject;
    });
  } catch (error) {
    if (!(error instanceof SvcMqttError) || error.code === 'DEVICE_NOT_FOUND') throw error;
    tell(error.message);
    return natsSubject;
  }
}
