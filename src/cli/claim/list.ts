import type { ClaimJson } from '../../api/claim.js';
import type { Config } from '../../config.js';
import { withStore } from '../store/open.js';
import { type CommandIo, write } from '../terminal/io.js';
import { type ListColumn, writeListing } from '../terminal/listing.js';
import { tableTime, timeWidth, uncut } from '../terminal/table.js';

/**
 * Lists claims in order of id, a page at a time.
 *
 * @throws SvcMqttError DATABASE_*.
 */
export async function listAllClaims(
  config: Config,
  options: {
    readonly all?: boolean | undefined;
    readonly limit?: number;
    readonly json?: boolean | undefined;
  },
  io: CommandIo,
): Promise<void> {
  const state = options.all === true ? 'all' : 'active';
  await withStore(
    config,
    io,
    async ({ claims }) => {
      const found = await writeListing<ClaimJson>(io, {
        json: options.json,
        limit: options.limit,
        read: (limit) => claims.list({ state, limit }),
        columns: () => toColumns(io),
      });
      const note = state === 'all' ? 'No claims.\n' : 'No active claims; --all shows the others.\n';
      if (!found) await write(io.stderr, note);
    },
    { endsAtOnce: true },
  );
}

function toColumns(io: CommandIo): ListColumn<ClaimJson>[] {
  const time = tableTime(io);
  return [
    { title: 'ID', keep: uncut, text: ({ id }) => id },
    { title: 'TYPE', text: ({ type }) => type },
    { title: 'STATE', keep: 7, text: ({ state }) => state },
    { title: 'USES LEFT', text: ({ uses_left: left, uses }) => `${left} of ${uses}` },
    { title: 'EXPIRES', keep: timeWidth, text: ({ expires_at: at }) => time(at) },
    { title: 'CREATED', keep: timeWidth, text: ({ created_at: at }) => time(at) },
  ];
}
