import { toPolicyJson } from '../../api/policy.js';
import type { Config } from '../../config.js';
import type { DevicePolicy } from '../../db/policies.js';
import { withStore } from '../store/open.js';
import { type CommandIo, write } from '../terminal/io.js';
import { type ListColumn, writeListing } from '../terminal/listing.js';

const pageSize = 1_000;

/**
 * Lists all policies in order of type.
 *
 * @throws SvcMqttError DATABASE_*.
 */
export async function listAllPolicies(
  config: Config,
  options: { readonly limit?: number; readonly json?: boolean | undefined },
  io: CommandIo,
): Promise<void> {
  await withStore(config, io, async ({ policies }) => {
    const found = await writeListing<DevicePolicy>(io, {
      json: options.json,
      limit: options.limit,
      pageSize,
      read: (after, limit) => policies.list({ after, limit }),
      toJson: toPolicyJson,
      columns: () => columns,
    });
    if (!found) await write(io.stderr, 'No policies: every device has the default.\n');
  });
}

const listed = (templates: readonly string[]) => (templates.length === 0 ? 'nothing' : templates.join(' '));

const columns: readonly ListColumn<DevicePolicy>[] = [
  { title: 'TYPE', keep: 16, text: ({ type }) => type },
  { title: 'RATE', text: ({ publishRate }) => (publishRate === null ? '-' : `${publishRate}/s`) },
  {
    title: 'MAX PACKET',
    text: ({ maxPacketBytes }) => (maxPacketBytes === null ? '-' : `${maxPacketBytes}`),
  },
  { title: 'NATS SUBJECT', text: ({ natsSubject }) => natsSubject ?? '-' },
  { title: 'PUBLISH', text: ({ publish }) => listed(publish) },
  { title: 'SUBSCRIBE', text: ({ subscribe }) => listed(subscribe) },
];
