import type { Config } from '../config.js';
import { toClaimJson } from '../db/claim-json.js';
import { type Claim, listClaims } from '../db/claims.js';
import { requireSchema, withDatabase } from './database.js';
import { type CommandIo, write } from './io.js';
import { columnWidths, escapeControls, formatRow, formatTime, toJsonLine } from './text.js';

const pageSize = 1_000;

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
  const header = ['ID', 'STATE', 'USES LEFT', 'EXPIRES', 'CREATED', 'TYPE'];
  let widths: number[] | undefined;
  let after: string | undefined;
  await withDatabase(config, io, async (db) => {
    await requireSchema(db);
    do {
      const page = await listClaims(db, { state, after, limit: pageSize });
      after = page.length === pageSize ? page.at(-1)?.id : undefined;
      if (options.json === true) {
        for (const claim of page) await write(io.stdout, toJsonLine(toClaimJson(claim)));
        continue;
      }
      const rows = page.map(toCells);
      if (widths === undefined && rows.length > 0) {
        widths = columnWidths([header, ...rows]);
        await write(io.stdout, formatRow(header, widths));
      }
      for (const row of rows) await write(io.stdout, formatRow(row, widths ?? []));
    } while (after !== undefined && !io.outputClosed.aborted);
  });
  if (widths === undefined && options.json !== true) {
    await write(io.stderr, state === 'all' ? 'No claims.\n' : 'No active claims; --all shows the others.\n');
  }
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
