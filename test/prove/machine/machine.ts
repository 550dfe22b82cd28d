import { type ChildProcess, execFile, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { obtainNatsServer } from '../../../src/server/forward/embedded/nats-server-program.js';
import { freePort } from '../../support/free-port.js';
import type { Random } from '../random.js';
import { type Disk, startDisk } from './disk.js';
import { makeArchive, packProgram, withDirectories } from './initramfs.js';
import { obtainKernel, packModules } from './kernel.js';

const run = promisify(execFile);

/** A virtual machine whose processor, memory and disk are software, and nats-servers in it. */
export interface Machine {
  /** Of each nats-server, on 127.0.0.1. */
  readonly urls: readonly string[];
  readonly disk: Disk;
  readonly versions: Readonly<Record<string, string>>;
  /** Takes its power: what is in its memory and in its disk's cache is gone. @returns blocks that the disk lost. */
  cutPower(random: Random): Promise<number>;
  /** Powers it on; resolves when every nats-server takes connections. */
  boot(): Promise<void>;
  /** What its console showed lately. */
  readonly console: string;
  close(): Promise<void>;
}

const qemu = 'qemu-system-x86_64';
const diskBytes = 2 ** 30;
const bootWithinMs = 240_000;
/** Without its check of the timer: that can fail where the processor is software, and then the kernel stands still. */
const kernelArguments = 'console=ttyS0 quiet panic=-1 no_timer_check';
const address = '10.0.2.15';

/** Why there can be no virtual machine here and what to do, or undefined. */
export async function findMachineObstacle(): Promise<string | undefined> {
  if (process.platform !== 'linux' || process.arch !== 'x64') return 'a virtual machine needs Linux on x64';
  const needed = {
    [qemu]: 'qemu-system-x86',
    busybox: 'busybox-static',
    'mkfs.ext4': 'e2fsprogs',
    'dpkg-deb': 'dpkg',
  };
  const missing = Object.entries(needed).filter(([program]) => {
    try {
      execFileSync('sh', ['-c', `command -v ${program}`], { env: { PATH: searchPath }, stdio: 'ignore' });
      return false;
    } catch {
      return true;
    }
  });
  if (missing.length > 0)
    return `${missing.map(([program]) => program).join(', ')} not installed: apt-get install --no-install-recommends ${missing.map(([, name]) => name).join(' ')}`;
  try {
    await obtainKernel();
    return undefined;
  } catch (error) {
    return `no kernel for the virtual machine: ${error instanceof Error ? error.message : String(error)}`;
  }
}

/** mkfs is often not on the path of a user. */
const searchPath = `${process.env.PATH ?? ''}:/usr/sbin:/sbin`;

/**
 * Starts a virtual machine.
 *
 * @param options.servers 1, or 3 for a cluster.
 * @param options.jetstream lines for the `jetstream` block of each.
 */
export async function startMachine(options: { servers: 1 | 3; jetstream: string }): Promise<Machine> {
  const kernel = await obtainKernel();
  const program = await obtainNatsServer({
    program: process.env.NATS_SERVER_BIN,
    onProgress: (line) => process.stderr.write(`${line}\n`),
  });
  const directory = mkdtempSync(path.join(tmpdir(), 'svc-mqtt-machine-'));
  const imageFile = path.join(directory, 'disk');
  const archiveFile = path.join(directory, 'initramfs');
  const names = Array.from({ length: options.servers }, (_, index) => `n${index + 1}`);
  const ports = await Promise.all(names.map(() => freePort()));
  writeFileSync(imageFile, '');
  truncateSync(imageFile, diskBytes);
  await run('mkfs.ext4', ['-q', '-F', imageFile], { env: { PATH: searchPath } });
  const busybox = execFileSync('sh', ['-c', 'command -v busybox'], { encoding: 'utf8' }).trim();
  writeFileSync(
    archiveFile,
    makeArchive(
      withDirectories([
        { path: 'init', contents: initScript },
        ...['proc', 'sys', 'dev', 'data', 'tmp', 'etc'].map((name) => ({ path: name })),
        ...packProgram(busybox, 'bin/busybox'),
        ...packProgram(program.path, 'bin/nats-server'),
        ...packModules(kernel),
        ...names.map((name, index) => ({
          path: `etc/nats/${name}.conf`,
          contents: configOf(name, index, names, options.jetstream),
        })),
      ]),
    ),
  );
  const disk = await startDisk(imageFile, path.join(directory, 'disk.socket'), diskBytes);
  let child: ChildProcess | undefined;
  let output = '';

  const kill = async (): Promise<void> => {
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, 'exit');
    child.kill('SIGKILL');
    await exited;
  };
  const machine: Machine = {
    urls: ports.map((port) => `nats://127.0.0.1:${port}`),
    disk,
    versions: {
      'nats-server': program.version,
      'kernel of the virtual machine': kernel.version,
      qemu: readQemuVersion(),
    },
    get console() {
      return output;
    },
    async cutPower(random) {
      await kill();
      return disk.cutPower(random);
    },
    async boot() {
      const forwards = ports.map(
        (port, index) => `,hostfwd=tcp:127.0.0.1:${port}-${address}:${4_222 + index}`,
      );
      output = '';
      const started = spawn(
        qemu,
        [
          ...['-accel', 'tcg,thread=multi', '-machine', 'q35', '-cpu', 'max', '-smp', '2', '-m', '768'],
          ...['-nodefaults', '-no-reboot', '-display', 'none', '-serial', 'stdio'],
          ...['-kernel', kernel.image, '-initrd', archiveFile, '-append', kernelArguments],
          // Nothing between the guest's requests and the disk: each flush of the guest is one of the disk.
          ...['-drive', `if=virtio,format=raw,cache=none,file=nbd:unix:${disk.socketPath}`],
          ...[
            '-netdev',
            `user,id=net,restrict=on${forwards.join('')}`,
            '-device',
            'virtio-net-pci,netdev=net',
          ],
          ...['-device', 'virtio-rng-pci'],
        ],
        { stdio: ['ignore', 'pipe', 'pipe'] },
      );
      child = started;
      const killWithUs = () => started.kill('SIGKILL');
      process.once('exit', killWithUs);
      started.once('exit', () => process.off('exit', killWithUs));
      for (const stream of [started.stdout, started.stderr]) {
        stream.setEncoding('utf8').on('data', (text: string) => {
          output = (output + text).slice(-8_000);
        });
      }
      const endMs = performance.now() + bootWithinMs;
      for (const port of ports) {
        while (!(await answers(port))) {
          if (started.exitCode !== null || performance.now() > endMs)
            throw new Error(`the virtual machine does not come up: ${output}`);
          await delay(100);
        }
      }
    },
    async close() {
      await kill();
      await disk.close();
      rmSync(directory, { recursive: true, force: true });
    },
  };
  try {
    await machine.boot();
  } catch (error) {
    await machine.close();
    throw error;
  }
  return machine;
}

/** The first process of the machine. A nats-server that ends is told on the console, and is not started again. */
const initScript = `#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for module in /lib/*.ko; do insmod $module; done
ifconfig lo 127.0.0.1 up
ifconfig eth0 ${address} netmask 255.255.255.0 up
mount -t ext4 /dev/vda /data || poweroff -f
for config in /etc/nats/*.conf; do
  (nats-server -c $config 2>&1 | grep -E 'ERR|FTL|panic'; echo "nats-server ended: $config") &
done
wait
`;

function configOf(name: string, index: number, names: readonly string[], jetstream: string): string {
  const routes = names.map((_, other) => `"nats://127.0.0.1:${6_222 + other}"`).join(', ');
  const cluster = `cluster { name: prove, listen: "127.0.0.1:${6_222 + index}", routes: [${routes}], no_advertise: true }`;
  return [
    `server_name: ${name}`,
    `listen: "0.0.0.0:${4_222 + index}"`,
    `jetstream { store_dir: "/data/${name}"\n${jetstream} }`,
    names.length === 1 ? '' : cluster,
    '',
  ].join('\n');
}

/** Whether a nats-server says its INFO. */
function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    const end = (answer: boolean): void => {
      socket.destroy();
      resolve(answer);
    };
    // What listens until the machine is up is qemu.
    socket.setTimeout(1_000, () => end(false));
    socket.once('data', (data: Buffer) => end(data.toString('latin1').startsWith('INFO')));
    socket.once('error', () => end(false));
    socket.once('close', () => end(false));
  });
}

function readQemuVersion(): string {
  const text = execFileSync(qemu, ['--version'], { encoding: 'utf8' });
  return /version (\S+)/.exec(text)?.[1] ?? '?';
}
