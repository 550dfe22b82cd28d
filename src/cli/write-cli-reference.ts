/** The script behind `npm run docs:cli`: writes docs/cli.md. */
import { writeFileSync } from 'node:fs';
import { renderCliReference } from './cli-reference.js';
import { buildProgram } from './program.js';

const { program, uses } = buildProgram(() => {});
writeFileSync(new URL('../../docs/cli.md', import.meta.url), renderCliReference(program, uses));
