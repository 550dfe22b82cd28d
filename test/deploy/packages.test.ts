import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const projectDir = fileURLToPath(new URL('../..', import.meta.url));
const manifest = JSON.parse(readFileSync(`${projectDir}/package.json`, 'utf8')) as {
  engines: { node: string };
  dependencies: Record<string, string>;
};
const lock = JSON.parse(readFileSync(`${projectDir}/package-lock.json`, 'utf8')) as {
  packages: Record<string, { engines?: { node?: string }; resolved?: string }>;
};

test('what the program imports is there without development dependencies', () => {
  const files = readdirSync(`${projectDir}/src`, { recursive: true, encoding: 'utf8' });
  const imported = files
    // What runs in a browser is bundled by the build.
    .filter((name) => /\.tsx?$/.test(name) && !name.startsWith('server/console/'))
    .flatMap((name) => [
      ...readFileSync(`${projectDir}/src/${name}`, 'utf8').matchAll(
        /^(?:import(?! type)[^'";]*?|export[^'";]*? from |.*\bimport\()'((?:@[^/']+\/)?[^./'][^/']*)/gm,
      ),
    ])
    .map((match) => match[1] ?? '')
    .filter((name) => !name.startsWith('node:'));
  expect(imported.length).toBeGreaterThan(10);
  expect([...new Set(imported)].filter((name) => manifest.dependencies[name] === undefined)).toEqual([]);
});

test('no package asks for a later Node.js than the oldest that is supported', () => {
  const [, oldest] = /^>=(\d+)\.\d+$/.exec(manifest.engines.node) ?? [];
  const asking = Object.entries(lock.packages).filter(([, { engines }]) => {
    // A range holds when one of its alternatives begins at or below the oldest version.
    const alternatives = (engines?.node ?? '*').split('||');
    return !alternatives.some((range) => Number(/\d+/.exec(range)?.[0] ?? 0) <= Number(oldest));
  });
  expect(asking.map(([path]) => path)).toEqual([]);
});

test('the lock file names no registry', () => {
  expect(Object.values(lock.packages).filter(({ resolved }) => resolved !== undefined)).toEqual([]);
});
