import type { Config } from '../config.js';
import { obtainNatsServer } from '../server/forward/nats-server-program.js';
import { type CommandIo, whenAborted, write } from './io.js';
import { escapeControls, toJsonLine } from './text.js';

export interface SetupOptions {
  readonly json?: boolean | undefined;
}

/**
 * Makes sure that there is a nats-server program for the embedded server, getting one when there is none, and
 * prints where it is.
 *
 * @throws SvcMqttError NATS_EMBEDDED; Interrupted when a signal came first.
 */
export async function setup(config: Config, options: SetupOptions, io: CommandIo): Promise<void> {
  const aborted = whenAborted(io.signal);
  try {
    const obtaining = obtainNatsServer({
      program: config.natsServerBin,
      env: io.env,
      onProgress: (line) => {
        io.stderr.write(`${escapeControls(line)}\n`);
      },
    });
    const { path, version } = await Promise.race([obtaining, aborted.promise]);
    await write(io.stdout, options.json === true ? toJsonLine({ path, version }) : `${path}\n`);
  } finally {
    aborted.release();
  }
}
