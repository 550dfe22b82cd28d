import type { Peers } from './peers.js';

type MetricsText = { readonly contentType: string; readonly text: string };

/** Reads the metrics of all workers that answer in time. */
export async function readAllMetrics(
  metrics: { read(): Promise<MetricsText> },
  peers: Pick<Peers, 'askMetrics'>,
): Promise<MetricsText> {
  const [own, others] = await Promise.all([metrics.read(), peers.askMetrics()]);
  return { contentType: own.contentType, text: mergeMetrics([own.text, ...others]) };
}

/**
 * Joins metrics in the text format of Prometheus, each of whose series bears the worker that it is of: each metric once, with
 * the series of all.
 */
function mergeMetrics(texts: readonly string[]): string {
  const families = new Map<string, { readonly head: string[]; readonly samples: string[] }>();
  for (const text of texts) {
    let family: { head: string[]; samples: string[] } = { head: [], samples: [] };
    for (const line of text.split('\n')) {
      const name = /^# (?:HELP|TYPE) (\S+)/.exec(line)?.[1];
      if (name === undefined) {
        if (line !== '') family.samples.push(line);
        continue;
      }
      family = families.get(name) ?? { head: [], samples: [] };
      families.set(name, family);
      if (!family.head.includes(line)) family.head.push(line);
    }
  }
  return [...families.values()]
    .map(({ head, samples }) => `${[...head, ...samples].join('\n')}\n`)
    .join('\n');
}
