import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { ArchiveFile } from './initramfs.js';

const run = promisify(execFile);

/** A Linux kernel and the directory of its modules. */
export interface Kernel {
  readonly image: string;
  readonly modules: string;
  readonly version: string;
}

/** Debian's smallest: it has ext4 built in and the drivers of a virtual machine as modules. */
const packageName = 'linux-image-cloud-amd64';
const directory = fileURLToPath(new URL('../../../.cache/prove/kernel', import.meta.url));
/** In the order in which they need each other; one that is not there is built in. */
const moduleNames = [
  'virtio_ring',
  'virtio',
  'virtio_pci_legacy_dev',
  'virtio_pci_modern_dev',
  'virtio_pci',
  'failover',
  'net_failover',
  'virtio_net',
  'virtio_blk',
  'virtio-rng',
];

/** Takes Debian's kernel out of its package, which apt downloads once; nothing is installed. */
export async function obtainKernel(): Promise<Kernel> {
  if (!existsSync(directory)) {
    mkdirSync(path.dirname(directory), { recursive: true });
    const staging = mkdtempSync(`${directory}-`);
    try {
      // The package proper is what this one depends on.
      const { stdout } = await run('apt-cache', ['depends', packageName]);
      const found = /Depends: (linux-image-\S+)/.exec(stdout)?.[1];
      if (found === undefined) throw new Error(`apt knows no ${packageName}: run "apt-get update"`);
      // apt's own user may not write here, which it says on stderr and gets over.
      await run('apt-get', ['download', found], { cwd: staging });
      const [file = ''] = readdirSync(staging);
      const contents = path.join(staging, 'contents');
      await run('dpkg-deb', ['-x', path.join(staging, file), contents]);
      try {
        renameSync(contents, directory);
      } catch (error) {
        // Another process was quicker.
        if (!existsSync(directory)) throw error;
      }
    } finally {
      rmSync(staging, { recursive: true, force: true });
    }
  }
  const name = readdirSync(path.join(directory, 'boot')).find((file) => file.startsWith('vmlinuz-'));
  if (name === undefined) throw new Error(`no kernel in ${directory}: remove it, and it is got again`);
  const version = name.slice('vmlinuz-'.length);
  const modules = [
    path.join(directory, 'lib/modules', version),
    path.join(directory, 'usr/lib/modules', version),
  ];
  return {
    image: path.join(directory, 'boot', name),
    modules: modules.find((found) => existsSync(found)) ?? '',
    version,
  };
}

/** The modules a machine needs, as `lib/<number>-<name>.ko`, to be loaded in this order. */
export function packModules(kernel: Kernel): ArchiveFile[] {
  const files = readdirSync(kernel.modules, { recursive: true, encoding: 'utf8' });
  return moduleNames.flatMap((name, index) => {
    const file = files.find((found) => path.basename(found) === `${name}.ko`);
    if (file === undefined) return [];
    return [
      {
        path: `lib/${String(index).padStart(2, '0')}-${name}.ko`,
        contents: readFileSync(path.join(kernel.modules, file)),
      },
    ];
  });
}
