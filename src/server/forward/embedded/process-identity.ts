import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';

/**
 * When a process began, in the words of the operating system; undefined when there is no such process, or it has
 * ended and only waits for its parent. A number and its birth together name a process: numbers are used again.
 */
export function readProcessBirth(pid: number): string | undefined {
  if (process.platform === 'linux') {
    try {
      // The name in parentheses may hold anything, so what follows its last parenthesis is counted.
      const fields = readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ').at(-1)?.split(' ') ?? [];
      return fields[0] === 'Z' || fields[0] === 'X' ? undefined : fields[19];
    } catch {
      return undefined;
    }
  }
  try {
    const env = { PATH: process.env.PATH, LC_ALL: 'C' };
    const arguments_ = ['-o', 'stat=,lstart=', '-p', String(pid)];
    const line = execFileSync('ps', arguments_, { encoding: 'utf8', env }).trim();
    return line === '' || line.startsWith('Z') ? undefined : line.replace(/^\S+\s+/, '');
  } catch {
    return undefined;
  }
}

/** A process, beyond doubt. */
export interface ProcessIdentity {
  readonly pid: number;
  readonly birth: string;
}

/** @returns undefined when there is no such process. */
export function identifyProcess(pid: number | undefined): ProcessIdentity | undefined {
  const birth = pid === undefined ? undefined : readProcessBirth(pid);
  return pid === undefined || birth === undefined ? undefined : { pid, birth };
}

export function isAlive({ pid, birth }: ProcessIdentity): boolean {
  return readProcessBirth(pid) === birth;
}
