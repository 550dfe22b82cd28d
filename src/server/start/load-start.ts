import { createRequire } from 'node:module';
import { setFlagsFromString } from 'node:v8';

/**
 * Loads what a replica is made of.
 *
 * V8 takes it from objects that lived long that those made later at the same place will, and makes them where they stay until it collects all
 * of its heap. Thousands of clients that connect teach it so of what each message needs: every collection of young objects then took
 * three times as long, which is what the slowest messages waited for.
 */
export async function loadStart(): Promise<typeof import('../start.js')> {
  setFlagsFromString('--no-allocation-site-pretenuring');
  readOneByOne('../start.js');
  return await import('../start.js');
}

/** Loads what starts workers. */
export async function loadStartWorkers(): Promise<typeof import('../workers/start-workers.js')> {
  readOneByOne('../workers/start-workers.js');
  return await import('../workers/start-workers.js');
}

/** `import` opens hundreds of files at once, more than a process with few open files may; `require` reads one at a time. */
function readOneByOne(file: string): void {
  if (import.meta.url.endsWith('.js')) createRequire(import.meta.url)(file);
}
