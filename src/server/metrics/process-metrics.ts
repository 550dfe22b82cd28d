import { readdir, stat } from 'node:fs/promises';
import { collectDefaultMetrics, Gauge, type Registry } from 'prom-client';

/**
 * How often the lag of the event loop is sampled; prom-client's own choice of 10 ms shows in the CPU time of a server
 * at rest.
 */
const eventLoopSampleMs = 20;

/** Each lists every handle and so every connection: with 100,000 of them a scrape would hold all devices up. */
const costlyMetrics = [
  'process_open_fds',
  'nodejs_active_handles',
  'nodejs_active_handles_total',
  'nodejs_active_requests',
  'nodejs_active_requests_total',
  'nodejs_active_resources',
  'nodejs_active_resources_total',
] as const;

const openFilesDirectory = '/proc/self/fd';

/** Adds the metrics of the process and begins to watch its event loop. */
export function addProcessMetrics(registry: Registry): void {
  collectDefaultMetrics({ register: registry, eventLoopMonitoringPrecision: eventLoopSampleMs });
  for (const name of costlyMetrics) registry.removeSingleMetric(name);
  if (process.platform === 'linux') addOpenFiles(registry);
}

function addOpenFiles(registry: Registry): void {
  const gauge: Gauge = new Gauge({
    name: 'process_open_fds',
    help: 'Number of open file descriptors.',
    registers: [registry],
    async collect() {
      // A process that may open no more files keeps its last number where counting them needs one.
      const count = await countOpenFiles().catch(() => undefined);
      if (count !== undefined) gauge.set(count);
    },
  });
}

/** Linux tells the number as the size of the directory from 6.2 on; before that they are counted, in another thread. */
async function countOpenFiles(): Promise<number> {
  const { size } = await stat(openFilesDirectory);
  // Listing the directory opens one more.
  return size > 0 ? size : (await readdir(openFilesDirectory)).length - 1;
}
