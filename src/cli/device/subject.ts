import type { Config } from '../../config.js';
import { readMigrationStatus } from '../../db/migrate.js';
import { SvcMqttError } from '../../errors.js';
import { withDatabase } from '../store/database.js';
import { openDatabaseStore } from '../store/database-store.js';
import { withStore } from '../store/open.js';
import type { Store } from '../store/store.js';
import { findRemote } from '../store/target.js';
import type { CommandIo } from '../terminal/io.js';
import { deviceNotFound } from './show.js';

/**
 * The template of the NATS subject of a device: that of the policy of its type, else NATS_SUBJECT. It is looked up over the
 * HTTP API that is named or was logged in to, else in the database. Looking makes no
 * embedded database and migrates none; when nothing can be looked up, that is told on stderr, and NATS_SUBJECT taken.
 *
 * @throws SvcMqttError DEVICE_NOT_FOUND.
 */
export async function findSubjectTemplate(config: Config, id: string, io: CommandIo): Promise<string> {
  const { natsSubject } = config;
  const tell = (why: string) => io.stderr.write(`${why}; taking its subject from NATS_SUBJECT.\n`);
  const choose = async ({ devices, policies }: Pick<Store, 'devices' | 'policies'>) => {
    const device = await devices.find(id);
    if (device === undefined) throw deviceNotFound([id]);
    return (await policies.find(device.type))?.natsSubject ?? natsSubject;
  };
  try {
    if (findRemote(config, io.env) !== undefined) return await withStore(config, io, choose);
    return await withDatabase(config, io, async (db) => {
      if ((await readMigrationStatus(db)).pending.length > 0) {
        tell(`The schema of ${db.where} is not up to date`);
        return natsSubject;
      }
      return await choose(openDatabaseStore(db, config));
    });
  } catch (error) {
    if (!(error instanceof SvcMqttError) || error.code === 'DEVICE_NOT_FOUND') throw error;
    tell(error.message);
    return natsSubject;
  }
}
