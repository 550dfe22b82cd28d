/** The script behind `npm run docs:cli`: writes docs/cli.md. */
import { writeFileSync } from 'node:fs';
import { buildProgram } from '../program.js';
import { renderCliReference } from './cli-reference.js';

const { program, uses } = buildProgram(() => {});
writeFileSync(new URL('../../../docs/cli.md', import.meta.url), renderCliReference(program, uses));
