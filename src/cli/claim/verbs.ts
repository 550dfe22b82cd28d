import type { ClaimJson } from '../../api/claim.js';
import { SvcMqttError } from '../../errors.js';
import type { Call } from '../command/command.js';
import { usageError } from '../command/usage-error.js';
import { listStored } from '../store/list.js';
import { withStore } from '../store/open.js';
import { confirm } from '../terminal/ask.js';
import { type CommandIo, requireWritten, write } from '../terminal/io.js';
import type { ListColumn } from '../terminal/listing.js';
import { blockTime, tableTime, timeWidth, uncut } from '../terminal/table.js';
import { escapeControls, formatBlock, toJsonLine } from '../terminal/text.js';

interface CreateOptions {
  readonly type?: string;
  readonly uses?: number;
  /** How long it can be used, ms. */
  readonly expires?: number;
}

const defaultLifetimeMs = 86_400_000;

/**
 * Makes a claim and shows its text, once.
 *
 * @throws SvcMqttError USAGE without a type, INPUT_INVALID, DATABASE_*.
 */
export async function createClaim({ config, options, io }: Call<CreateOptions>): Promise<void> {
  const { type, uses = 1, expires = defaultLifetimeMs, json } = options;
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
  await write(io.stdout, json === true ? toJsonLine(claim) : formatBlock(rows));
  await requireWritten(io, `Claim ${claim.id} is made`, 'Revoke it and create another');
  if (json !== true) await write(io.stderr, 'Keep the claim: nothing can show it again.\n');
}

/** Lists claims in order of id, a page at a time. @throws SvcMqttError DATABASE_*. */
export async function listClaims(call: Call<{ readonly all?: boolean }>): Promise<void> {
  const state = call.options.all === true ? 'all' : 'active';
  await listStored(call, {
    read: ({ claims }, limit) => claims.list({ state, limit }),
    columns: () => toColumns(call.io),
    none: state === 'all' ? 'No claims.' : 'No active claims; --all shows the others.',
  });
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

/**
 * Revokes a claim, after asking on a terminal; devices that it has made stay.
 *
 * @returns the exit status: 1 when the question was answered with no.
 * @throws SvcMqttError USAGE, CLAIM_NOT_FOUND, DATABASE_*.
 */
export async function revokeClaim({ config, options, args: [id = ''], io }: Call): Promise<number> {
  if (id.startsWith('svcmqttclaim_')) {
    const suggestion = 'Give its id; the text is a secret, and arguments can be read by others';
    throw usageError('claim revoke takes the id of a claim, not its text', suggestion);
  }
  const question = {
    doing: 'Revoking',
    text: `Revoke claim ${escapeControls(id)}? No device can use it any more; those that it has made stay.`,
    declined: 'Nothing was revoked.',
  };
  if (!(await confirm(question, options.yes, io))) return 1;
  const outcome = await withStore(config, io, ({ claims }) => claims.revoke(id));
  if (outcome === 'unknown') {
    throw new SvcMqttError('CLAIM_NOT_FOUND', `There is no claim with the id ${escapeControls(id)}`, {
      suggestion: '`svc-mqtt claim list --all` shows every id',
    });
  }
  const json = { id, outcome: outcome.replace(' ', '_') };
  await write(io.stdout, options.json === true ? toJsonLine(json) : `${id}: ${outcome}\n`);
  return 0;
}
