import type { Config } from '../../config.js';
import { usageError } from '../command/usage-error.js';
import { withStore } from '../store/open.js';
import { type CommandIo, requireWritten, write } from '../terminal/io.js';
import { blockTime } from '../terminal/table.js';
import { formatBlock, toJsonLine } from '../terminal/text.js';

export interface ClaimCreateOptions {
  readonly type?: string | undefined;
  readonly uses?: number | undefined;
  /** How long it can be used, ms. */
  readonly expires?: number | undefined;
  readonly json?: boolean | undefined;
}

const defaultLifetimeMs = 86_400_000;

/**
 * Makes a claim and shows its text, once.
 *
 * @throws SvcMqttError USAGE without a type, INPUT_INVALID, DATABASE_*.
 */
export async function createDeviceClaim(
  config: Config,
  options: ClaimCreateOptions,
  io: CommandIo,
): Promise<void> {
  const { type, uses = 1, expires = defaultLifetimeMs } = options;
  if (type === undefined) {
    const example = 'Example: svc-mqtt claim create --type sensor --uses 100 --expires 7d';
    throw usageError('claim create needs --type <type>', example);
  }
  const claim = await withStore(config, io, ({ claims }) =>
    claims.create({ type, uses, expiresAt: new Date(Date.now() + expires) }),
  );
  const rows = [
    ['id', claim.id],
    ['claim', claim.claim],
    ['type', claim.type],
    ['uses', String(claim.uses)],
    ['expires', blockTime(io)(claim.expires_at)],
  ] as const;
  await write(io.stdout, options.json === true ? toJsonLine(claim) : formatBlock(rows));
  await requireWritten(io, `Claim ${claim.id} is made`, 'Revoke it and create another');
  if (options.json !== true) await write(io.stderr, 'Keep the claim: nothing can show it again.\n');
}
