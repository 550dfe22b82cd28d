import type { Log } from '../../../log.js';
import {
  type JetStreamManager,
  type NatsConnection,
  RetentionPolicy,
  StorageType,
  type StreamConfig,
  type StreamInfo,
} from '../connection/nats-library.js';
import { isAtLeast } from '../connection/server-version.js';
import { type LaterConfig, madeMark, type StreamKeeping } from './stream-config.js';

/**
 * Makes a stream that limits alone make smaller, and marks it as made by a gateway.
 *
 * @param keeping how another one keeps its messages: this one does so alike; undefined: in files, as the server would have it.
 * @throws NatsError.
 */
export async function makeStream(
  connection: NatsConnection,
  manager: JetStreamManager,
  config: Partial<StreamConfig> & LaterConfig & { readonly name: string; readonly subjects: string[] },
  keeping: StreamKeeping | undefined,
  log: Log,
): Promise<StreamInfo> {
  const { name, subjects, metadata, ...rest } = config;
  const created = await manager.streams.add({
    name,
    subjects,
    storage: keeping?.inMemory === true ? StorageType.Memory : StorageType.File,
    ...(keeping === undefined ? {} : { num_replicas: keeping.replicas }),
    retention: RetentionPolicy.Limits,
    ...rest,
    ...(isAtLeast(connection.info?.version ?? '', 2, 10) ? { metadata: { ...madeMark, ...metadata } } : {}),
  });
  log.info({ event: 'stream_created', stream: name, subjects }, 'created the stream');
  return created;
}
