import { createRequire } from 'node:module';

/** Loads what a replica is made of. */
export async function loadStart(): Promise<typeof import('../start.js')> {
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
