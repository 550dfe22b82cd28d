import type { Config } from '../config.js';
import { toClaimJson } from '../db/claim-json.js';
import { type Claim, listClaims } from '../db/claims.js';
import { requireSchema, withDatabase } from './database.js';
import { type CommandIo, write } from './io.js';
import { writeListing } from './listing.js';
import { escapeControls, formatTime } from './text.js';

const pageSize = 1_000;
const header = ['ID', 'STATE', 'USES LEFT', 'EXPIRES', 'CREATED', 'TYPE'];

/**
 * Lists claims in order of id, a page at a time.
 *
 * @throws SvcMqttError DATABASE_*.
 */
export async function listAllClaims(
  config: Config,
  options: { readonly all?: boolean | undefined; readonly json?: boolean | undefined },
  io: CommandIo,
): Promise<void> {
  const state = options.all === true ? 'all' : 'active';
  await withDatabase(config, io, async (db) => {
    await requireSchema(db);
    const found = await writeListing<Claim>(io, {
      json: options.json,
      header,
      pageSize,
      read: (after) => listClaims(db, { state, after: after?.id, limit: pageSize }),
      toJson: toClaimJson,
      toCells,
    });
    const note = state === 'all' ? 'No claims.\n' : 'No active claims; --all shows the others.\n';
    if (!found) await write(io.stderr, note);
  });
}

function toCells(claim: Claim): string[] {
  return [
    claim.id,
    claim.state,
    `${claim.usesLeft} of ${claim.uses}`,
    formatTime(claim.expiresAt),
    formatTime(claim.createdAt),
    escapeControls(claim.type),
  ];
}
