import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';

interface CpuProfile {
  readonly nodes: readonly {
    readonly id: number;
    readonly callFrame: { readonly functionName: string; readonly url: string; readonly lineNumber: number };
  }[];
  readonly samples: readonly number[];
  readonly timeDeltas: readonly number[];
}

/** Loading the program is not what is looked for. */
const startUpUs = 2_000_000;

/** The functions in which most time was spent, by the profiles of `--cpu-prof` in a directory. */
export function formatHotFunctions(directory: string, count: number): string {
  const [file] = readdirSync(directory)
    .filter((name) => name.endsWith('.cpuprofile'))
    .sort()
    .slice(-1);
  if (file === undefined) return 'no profile was written\n';
  const profile = JSON.parse(readFileSync(path.join(directory, file), 'utf8')) as CpuProfile;
  const names = new Map(
    profile.nodes.map(({ id, callFrame: { functionName, url, lineNumber } }) => {
      const place = url === '' ? '' : ` ${shorten(url)}:${lineNumber + 1}`;
      return [id, `${functionName === '' ? '(anonymous)' : functionName}${place}`];
    }),
  );
  const selfUs = new Map<string, number>();
  let atUs = 0;
  for (const [index, id] of profile.samples.entries()) {
    const us = profile.timeDeltas[index] ?? 0;
    atUs += us;
    if (atUs < startUpUs) continue;
    const name = names.get(id) ?? '?';
    selfUs.set(name, (selfUs.get(name) ?? 0) + us);
  }
  const busyUs = [...selfUs].reduce((sum, [name, us]) => (name === '(idle)' ? sum : sum + us), 0);
  const lines = [...selfUs]
    .filter(([name]) => name !== '(idle)')
    .sort(([, one], [, two]) => two - one)
    .slice(0, count)
    .map(([name, us]) => `${((us * 100) / busyUs).toFixed(1).padStart(6)} %  ${name}\n`);
  return [
    `self time, of ${(busyUs / 1e6).toFixed(1)} s busy (${path.join(directory, file)}):\n`,
    ...lines,
  ].join('');
}

function shorten(url: string): string {
  return url.replace(/^file:\/\//, '').replace(/^.*\/(node_modules|dist)\//, '');
}
