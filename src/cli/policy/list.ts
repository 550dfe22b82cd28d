import type { PolicyJson } from '../../api/policy.js';
import type { Config } from '../../config.js';
import { withStore } from '../store/open.js';
import { type CommandIo, write } from '../terminal/io.js';
import { type ListColumn, writeListing } from '../terminal/listing.js';

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
  await withStore(
    config,
    io,
    async ({ policies }) => {
      const found = await writeListing<PolicyJson>(io, {
        json: options.json,
        limit: options.limit,
        read: (limit) => policies.list({ limit }),
        columns: () => columns,
      });
      if (!found) await write(io.stderr, 'No policies: every device has the default.\n');
    },
    { endsAtOnce: true },
  );
}

const listed = (templates: readonly string[]) => (templates.length === 0 ? 'nothing' : templates.join(' '));

const columns: readonly ListColumn<PolicyJson>[] = [
  { title: 'TYPE', keep: 16, text: ({ type }) => type },
  { title: 'RATE', text: ({ publish_rate: rate }) => (rate === null ? '-' : `${rate}/s`) },
  {
    title: 'MAX PACKET',
    text: ({ max_packet_bytes: bytes }) => (bytes === null ? '-' : `${bytes}`),
  },
  { title: 'NATS SUBJECT', text: ({ nats_subject: subject }) => subject ?? '-' },
  { title: 'ACK', text: ({ ack_level: level }) => level ?? '-' },
  { title: 'PUBLISH', text: ({ publish }) => listed(publish) },
  { title: 'SUBSCRIBE', text: ({ subscribe }) => listed(subscribe) },
];
