import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { isAtLeast } from '../../src/server/forward/connection/server-version.js';
import {
  embeddedNatsConfig,
  embeddedNatsFiles,
} from '../../src/server/forward/embedded/embedded-nats-config.js';
import { obtainNatsServer } from '../../src/server/forward/embedded/nats-server-program.js';

const run = promisify(execFile);

/** Lets nats-server itself check a configuration. */
async function check(config: string): Promise<string> {
  const program = await obtainNatsServer({ program: process.env.NATS_SERVER_BIN, onProgress() {} });
  const dir = await mkdtemp(join(tmpdir(), 'svc mqtt conf-'));
  try {
    const path = join(dir, 'nats.conf');
    await writeFile(path, config.replaceAll('DIR', dir));
    const { stdout, stderr } = await run(program.path, ['-c', path, '-t']);
    return stdout + stderr;
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

describe('configurations of nats-server', () => {
  it('the one for containers is accepted', async () => {
    const program = await obtainNatsServer({ program: process.env.NATS_SERVER_BIN, onProgress() {} });
    const config = await readFile(new URL('../../deploy/nats.conf', import.meta.url), 'utf8');
    expect(config).toMatch(/^ *sync_interval:/m);
    // The image that the files name is 2.14; Debian's 2.9 does not know all settings.
    if (!isAtLeast(program.version, 2, 11)) return;
    await expect(check(config)).resolves.toContain('configuration file');
    await expect(check(config.replace('sync_interval', 'sync_intervall'))).rejects.toThrow('sync_intervall');
  });

  it('the one of the embedded server is accepted, and syncs before it acknowledges where that is cheap', async () => {
    const program = await obtainNatsServer({ program: process.env.NATS_SERVER_BIN, onProgress() {} });
    const files = embeddedNatsFiles('DIR/data "dir"');
    const config = embeddedNatsConfig(files, { port: 4222, version: program.version, storeBytes: 1e9 });
    expect(config.includes('sync_interval: always')).toBe(isAtLeast(program.version, 2, 15));
    expect(embeddedNatsConfig(files, { port: 0, version: '2.12.0', storeBytes: 1e9 })).toContain(
      'sync_interval: 1s',
    );
    expect(embeddedNatsConfig(files, { port: 0, version: '2.9.10', storeBytes: 1e9 })).not.toContain(
      'sync_interval',
    );
    await expect(check(config)).resolves.toContain('configuration file');
  });
});
