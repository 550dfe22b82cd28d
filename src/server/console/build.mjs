// Builds the console into dist/server/console: its script, its style, and the licences of the packages that are in them.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const here = fileURLToPath(new URL('.', import.meta.url));
const root = fileURLToPath(new URL('../../..', import.meta.url));
const outdir = `${root}/dist/server/console`;

const { metafile } = await build({
  absWorkingDir: root,
  entryPoints: [`${here}main.tsx`, `${here}style.css`],
  outdir,
  bundle: true,
  minify: true,
  metafile: true,
  format: 'esm',
  target: 'es2022',
  legalComments: 'none',
  logLevel: 'warning',
});

const names = Object.keys(metafile.inputs).map(
  (path) => /node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(path)?.[1],
);
const texts = [...new Set(names)]
  .filter((name) => name !== undefined)
  .sort()
  .map((name) => {
    const directory = `${root}/node_modules/${name}`;
    const file = readdirSync(directory).find((each) => /^licen[cs]e/i.test(each));
    if (file === undefined) throw new Error(`${name} has no licence file`);
    return `${name}\n\n${readFileSync(`${directory}/${file}`, 'utf8').trim()}\n`;
  });
writeFileSync(`${outdir}/licences.txt`, texts.join('\n\n'));
