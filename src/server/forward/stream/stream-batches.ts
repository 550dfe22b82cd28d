import { messageOf } from '../../../errors.js';
import type { Log } from '../../../log.js';
import type { JetStreamManager, NatsConnection, StreamInfo } from '../connection/nats-library.js';
import { isAtLeast } from '../connection/server-version.js';
import type { IngestSetting } from '../forwarder.js';
import { type LaterConfig, wasMade } from './stream-config.js';

/** In the metadata of a stream that a gateway let take batches: whoever takes that back has the last word. */
export const batchMark = { 'svc-mqtt.batches': 'true' } as const;

/** From 2.15 on a batch is synced once. Older servers have batches, and gain nothing by them. */
export function mayBatch(version: string, ingest: IngestSetting): boolean {
  if (ingest === 'plain') return false;
  return isAtLeast(version, 2, ingest === 'batch' ? 12 : 15);
}

/**
 * Lets a stream take batches that a gateway made before it let them, once. Never one that somebody else made; nor one in a
 * cluster, where a server older than this one would not serve it any more.
 *
 * @returns the stream as it is then.
 */
export async function allowBatches(
  connection: NatsConnection,
  manager: JetStreamManager,
  info: StreamInfo,
  ingest: IngestSetting,
  log: Log,
): Promise<StreamInfo> {
  const { name, metadata, allow_atomic } = info.config as typeof info.config & LaterConfig;
  const settled = allow_atomic === true || metadata?.['svc-mqtt.batches'] !== undefined;
  const alone = info.cluster === undefined || info.cluster === null;
  if (settled || !alone || !wasMade(info.config) || !mayBatch(connection.info?.version ?? '', ingest))
    return info;
  try {
    const change = { metadata: { ...metadata, ...batchMark }, ...{ allow_atomic: true } };
    const updated = await manager.streams.update(name, change);
    log.info(
      { event: 'stream_updated', stream: name },
      'the stream that svc-mqtt had made takes atomic batches now (allow_atomic)',
    );
    return updated;
  } catch (error) {
    log.warn(
      { event: 'stream_update_failed', stream: name, reason: messageOf(error) },
      'the stream that svc-mqtt had made could not be given allow_atomic: it confirms each message',
    );
    return info;
  }
}
