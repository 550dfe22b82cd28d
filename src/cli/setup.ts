import type { Config } from '../config.js';
import { obtainNatsServer } from '../server/forward/nats-server-program.js';
import { type CommandIo, whenAborted, write } from './io.js';
import { escapeControls } from './text.js';

/**
 * Makes sure that there is a nats-server program for the embedded server, getting one when there is none, and
 * prints where it is.
 *
 * @throws SvcMqttError NATS_EMBEDDED; Interrupted when a signal came first.
 */
export async function setup(config: Config, io: CommandIo): Promise<void> {
  const aborted = whenAborted(io.signal);
  try {
    const obtaining = obtainNatsServer({
      program: config.natsServerBin,
      env: io.env,
      onProgress: (line) => {
        io.stderr.write(`${escapeControls(line)}\n`);
      },
    });
    const { path } = await Promise.race([obtaining, aborted.promise]);
    await write(io.stdout, `${path}\n`);
  } finally {
    aborted.release();
  }
}
