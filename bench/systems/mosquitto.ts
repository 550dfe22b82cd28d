import { execFile } from 'node:child_process';
import { chmodSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { openLink } from '../load/link.js';
import { encodeConnect } from '../load/packets.js';
import { findFreePort, startChild, stopChild } from '../scope.js';
import type { System } from './system.js';

/** Debian keeps it where only root's PATH looks. */
const env = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/usr/local/sbin` };

/** mosquitto without persistence and without passwords: a broker that stores nothing. */
export const mosquitto: System = {
  name: 'mosquitto',
  title: 'mosquitto, nothing stored, no passwords',
  stores: false,
  async version() {
    try {
      // It answers its help with status 3.
      const { stdout } = await promisify(execFile)('mosquitto', ['-h'], { env }).catch((error) => {
        if (error.code === 'ENOENT') throw error;
        return error as { stdout: string };
      });
      return /version (\S+)/.exec(stdout)?.[1];
    } catch {
      return undefined;
    }
  },
  async start({ scope }) {
    const port = await findFreePort();
    chmodSync(scope.directory, 0o755);
    const config = path.join(scope.directory, `mosquitto-${port}.conf`);
    writeFileSync(
      config,
      [
        `listener ${port} 127.0.0.1`,
        'allow_anonymous true',
        'persistence false',
        'log_type error',
        // No limit of its own on what is in flight, and no waiting to fill a packet.
        'max_inflight_messages 0',
        'max_queued_messages 0',
        'set_tcp_nodelay true',
      ].join('\n'),
    );
    const child = startChild('mosquitto', ['-c', config], { env, stdio: 'ignore' });
    const stop = scope.add(() => stopChild(child));
    for (let attempt = 0; ; attempt += 1) {
      const link = openLink(
        port,
        encodeConnect({ id: '', user: 'u', password: 'p' }, 'bench-probe'),
        () => {},
        () => {},
      );
      const code = await link.accepted;
      link.socket.destroy();
      if (code === 0) break;
      if (attempt > 100) throw new Error('mosquitto did not start');
      await delay(50);
    }
    return {
      name: 'mosquitto',
      mqttPort: port,
      parts: [{ role: 'broker', pid: child.pid as number }],
      nats: undefined,
      stop,
    };
  },
};
