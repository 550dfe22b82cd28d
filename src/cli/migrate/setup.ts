import { describeLacks, obtainNatsServer } from '../../server/forward/embedded/nats-server-program.js';
import type { Call } from '../command/command.js';
import { whenAborted, write } from '../terminal/io.js';
import { escapeControls, toJsonLine } from '../terminal/text.js';

/**
 * Makes sure that there is a nats-server program for the embedded server, getting one when there is none, and
 * prints where it is.
 *
 * @throws SvcMqttError NATS_EMBEDDED; Interrupted when a signal came first.
 */
export async function setup({ config, options, io }: Call): Promise<void> {
  const aborted = whenAborted(io.signal);
  const say = (line: string) => {
    io.stderr.write(`${escapeControls(line)}\n`);
  };
  const obtaining = obtainNatsServer({
    program: config.natsServerBin,
    downloadUrl: config.natsServerDownloadUrl,
    renews: true,
    env: io.env,
    onProgress: say,
    signal: io.signal,
  });
  try {
    const { path, version } = await Promise.race([obtaining, aborted.promise]);
    const lacks = describeLacks(version);
    if (lacks !== undefined) say(lacks);
    await write(io.stdout, options.json === true ? toJsonLine({ path, version }) : `${path}\n`);
  } finally {
    aborted.release();
    // What is half downloaded is removed.
    if (io.signal.aborted) await obtaining.catch(() => {});
  }
}
