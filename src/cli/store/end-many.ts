import { type ErrorCode, SvcMqttError } from '../../errors.js';
import { type CommandIo, write } from '../terminal/io.js';
import { escapeControls, toJsonLine } from '../terminal/text.js';

/** What a command takes that ends several things over the API. */
export interface EndManyOptions {
  readonly ids: readonly string[];
  /** All of this device, in place of ids. */
  readonly device?: string | undefined;
  readonly yes?: boolean | undefined;
  readonly json?: boolean | undefined;
}

/**
 * Ends things one after the other until a signal comes, and says of each what became of it.
 *
 * @param way.done the word for it, such as `ended`.
 * @returns those that are not there.
 */
export async function endMany(
  ids: readonly string[],
  way: {
    end(id: string): Promise<void>;
    readonly notFound: ErrorCode;
    readonly done: string;
    readonly json: boolean | undefined;
  },
  io: CommandIo,
): Promise<string[]> {
  const unknown: string[] = [];
  for (const id of ids) {
    if (io.signal.aborted) break;
    const found = await way.end(id).then(
      () => true,
      (error: unknown) => {
        if (error instanceof SvcMqttError && error.code === way.notFound) return false;
        throw error;
      },
    );
    if (!found) unknown.push(id);
    if (way.json === true) {
      await write(io.stdout, toJsonLine({ id, outcome: found ? way.done : 'unknown' }));
    } else if (found) await write(io.stdout, `${escapeControls(id)} ${way.done}\n`);
  }
  return unknown;
}
