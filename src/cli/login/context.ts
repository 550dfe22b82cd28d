import type { Call } from '../command/command.js';
import { usageError } from '../command/usage-error.js';
import { readContexts, writeContexts } from '../store/contexts.js';
import { findRemote, localContext } from '../store/target.js';
import { write } from '../terminal/io.js';
import { openTable } from '../terminal/table.js';
import { escapeControls, toJsonLine } from '../terminal/text.js';

/**
 * Shows the logins, or chooses the one that commands use.
 *
 * @throws SvcMqttError USAGE, CONFIG_INVALID.
 */
export async function chooseContext({ config, options: { json }, args: [name], io }: Call): Promise<void> {
  const saved = readContexts(io.env);
  if (name !== undefined) {
    const found = saved.contexts.find((each) => each.name === name);
    if (found === undefined && name !== localContext) throw unknownContext(name);
    const { contexts } = saved;
    await writeContexts(found === undefined ? { contexts } : { contexts, current: found.name }, io.env);
    await write(io.stdout, `Commands use ${escapeControls(found?.url ?? 'this machine')} from now on.\n`);
    return;
  }
  const rows = saved.contexts.map((each) => ({ ...each, current: each.name === saved.current }));
  if (json === true) {
    for (const { name, url, current } of rows) await write(io.stdout, toJsonLine({ name, url, current }));
    return;
  }
  if (rows.length > 0) {
    const columns = [{ title: '', keep: 1 }, { title: 'NAME', keep: 16 }, { title: 'URL' }, { title: 'KEY' }];
    await openTable(
      io,
      columns,
    )(
      rows.map(({ name, url, key, current }) => [
        current ? '*' : '',
        name,
        url,
        key === undefined ? 'none' : 'kept',
      ]),
    );
  } else await write(io.stderr, 'No logins; `svc-mqtt login URL` remembers one.\n');
  const remote = findRemote(config, io.env);
  if (remote !== undefined && remote.context !== saved.current)
    await write(io.stderr, `A setting goes before: commands use ${escapeControls(remote.url)}.\n`);
}

/** Forgets a login. @throws SvcMqttError USAGE, CONFIG_INVALID. */
export async function logout({ args: [given], io }: Call): Promise<void> {
  const { current, contexts } = readContexts(io.env);
  const name = given ?? current;
  if (name === undefined) throw usageError('No login is in use', '`svc-mqtt context` lists all of them');
  const found = contexts.find((each) => each.name === name);
  if (found === undefined) throw unknownContext(name);
  const rest = contexts.filter((each) => each !== found);
  await writeContexts(
    current === undefined || current === name ? { contexts: rest } : { contexts: rest, current },
    io.env,
  );
  await write(io.stdout, `Forgot ${escapeControls(found.name)} (${escapeControls(found.url)}).\n`);
  const note = 'The key is still valid: `svc-mqtt api-key revoke` ends it.\n';
  if (found.key !== undefined) await write(io.stderr, note);
}

function unknownContext(name: string) {
  return usageError(`There is no context "${name}"`, '`svc-mqtt context` lists them');
}
