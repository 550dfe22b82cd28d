import { SvcMqttError } from '../errors.js';
import { type ApiConfig, openApi } from './api-address.js';
import { type CommandIo, write } from './io.js';
import { escapeControls, toJsonLine } from './text.js';

/**
 * Ends connections. Those that are not there are named at the end; the others are ended.
 *
 * @throws SvcMqttError USAGE, CONNECTION_NOT_FOUND, API_UNREACHABLE, UNAUTHENTICATED, FORBIDDEN.
 */
export async function kickConnections(
  config: ApiConfig,
  options: {
    readonly ids: readonly string[];
    readonly url?: string | undefined;
    readonly json?: boolean | undefined;
  },
  io: CommandIo,
): Promise<void> {
  const { api } = openApi(options.url, config);
  const unknown: string[] = [];
  for (const id of new Set(options.ids)) {
    if (io.signal.aborted) break;
    const kicked = await api.kick(id).then(
      () => true,
      (error: unknown) => {
        if (error instanceof SvcMqttError && error.code === 'CONNECTION_NOT_FOUND') return false;
        throw error;
      },
    );
    if (!kicked) unknown.push(id);
    if (options.json === true) {
      await write(io.stdout, toJsonLine({ id, outcome: kicked ? 'kicked' : 'unknown' }));
    } else if (kicked) await write(io.stdout, `${escapeControls(id)} kicked\n`);
  }
  if (unknown.length === 0) return;
  const shown = unknown.slice(0, 20).map(escapeControls).join(', ');
  const more = unknown.length > 20 ? ` and ${unknown.length - 20} more` : '';
  throw new SvcMqttError(
    'CONNECTION_NOT_FOUND',
    unknown.length === 1 ? `There is no connection ${shown}` : `There are no connections ${shown}${more}`,
    { suggestion: '`svc-mqtt connection list` shows those of this replica; another one has its own' },
  );
}
