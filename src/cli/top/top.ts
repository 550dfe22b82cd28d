import { setTimeout as sleep } from 'node:timers/promises';
import type { SortField } from '../../api/connection.js';
import { type ApiConfig, openApi } from '../store/api-address.js';
import type { FollowMessages } from '../store/follow-messages.js';
import type { LiveApi, PageRequest } from '../store/live-api.js';
import { type CommandIo, canDraw, write } from '../terminal/io.js';
import { describeFailure } from '../terminal/report.js';
import { toJsonLine } from '../terminal/text.js';
import { sortsDescending } from './columns.js';
import { readNow, readSnapshot, toSnapshotJson, toSnapshotText } from './snapshot.js';

export interface TopOptions {
  readonly json?: boolean | undefined;
  readonly once?: boolean | undefined;
  readonly limit?: number | undefined;
  readonly sort?: SortField | undefined;
  readonly reverse?: boolean | undefined;
  readonly filter?: string | undefined;
}

const defaultRows = 50;
const widthWithoutTerminal = 160;
const intervalMs = 1_000;

/**
 * Shows the live connections of all replicas: on a terminal as a screen of its own, else as one plain snapshot; with
 * `--json` as JSON lines until it is ended.
 *
 * @throws SvcMqttError USAGE, API_UNREACHABLE, UNAUTHENTICATED, FORBIDDEN.
 */
export async function top(config: ApiConfig, options: TopOptions, io: CommandIo): Promise<void> {
  const { url, api, follow } = openApi(config, io);
  const request = toRequest(options);
  const terminal = canDraw(io.stdout, io.env) && io.stdin.isTTY === true;
  if (options.json === true) {
    await printJson(api, request, options.once === true, io);
  } else if (options.once === true || !terminal) {
    const snapshot = await readSnapshot(api, request, io.signal);
    await write(io.stdout, toSnapshotText(snapshot, request, io.stdout.columns ?? widthWithoutTerminal));
  } else {
    await showScreen({ api, follow, where: url, request }, io);
  }
}

/**
 * Shows the screen until the operator quits or a signal comes.
 *
 * @throws SvcMqttError UNAUTHENTICATED, FORBIDDEN as the first answer.
 */
export async function showScreen(
  options: {
    api: LiveApi;
    /** Follows the messages of a device. */
    follow: FollowMessages;
    where: string;
    request: Pick<PageRequest, 'filter' | 'sort' | 'descending'>;
    /** The latest lines of the log, when the server runs in this process. */
    readLog?: () => readonly string[];
    /** Notes a failure that nothing caught, before it is told. */
    onDefect?: (error: unknown) => void;
  },
  io: CommandIo,
): Promise<void> {
  const { api, follow, where, request, readLog } = options;
  const { openTopView, sizeOf } = await import('./app.js');
  const { startTopSession } = await import('./session.js');
  const { clipboardSequence, takeScreen } = await import('./terminal.js');
  const { initialState } = await import('./state.js');
  const session = startTopSession({
    api,
    follow,
    initial: initialState({
      ...request,
      ...sizeOf(io.stdout),
      serving: readLog !== undefined,
    }),
    copy: (text) => io.stdout.write(clipboardSequence(text)),
    ...(readLog === undefined ? {} : { readLog }),
  });
  const giveBack = takeScreen(io.stdout);
  io.onDefect((error) => {
    giveBack();
    options.onDefect?.(error);
    io.stderr.write(describeFailure(error, { withStack: true }).text);
  });
  const color = (io.env.NO_COLOR ?? '') === '';
  const view = openTopView({ session, where, color, stdin: io.stdin, stdout: io.stdout });
  const signalled = AbortSignal.any([io.signal, io.outputClosed]);
  try {
    await Promise.race([
      session.quit,
      view.ended,
      // Without keys nobody could end it any more: the terminal has gone.
      new Promise<void>((resolve) => {
        for (const event of ['end', 'close', 'error']) io.stdin.once(event, () => resolve());
      }),
      new Promise<void>((resolve) => {
        if (signalled.aborted) resolve();
        else signalled.addEventListener('abort', () => resolve(), { once: true });
      }),
    ]);
  } finally {
    session.close();
    await view.close();
    giveBack();
  }
}

async function printJson(api: LiveApi, request: PageRequest, once: boolean, io: CommandIo): Promise<void> {
  if (once) {
    await write(io.stdout, toJsonLine(toSnapshotJson(await readSnapshot(api, request, io.signal))));
    return;
  }
  const ended = AbortSignal.any([io.signal, io.outputClosed]);
  while (!ended.aborted) {
    await write(io.stdout, toJsonLine(toSnapshotJson(await readNow(api, request))));
    await sleep(intervalMs, undefined, { signal: ended }).catch(() => {});
  }
}

function toRequest(options: TopOptions): PageRequest {
  const sort = options.sort ?? 'rate';
  return {
    filter: options.filter ?? '',
    sort,
    descending: sortsDescending(sort, options.reverse === true),
    offset: 0,
    limit: options.limit ?? defaultRows,
  };
}
