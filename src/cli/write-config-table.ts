/** The script behind `npm run docs:config`: writes the table of settings into README.md. */
import { readFileSync, writeFileSync } from 'node:fs';
import { replaceConfigTable } from './config-table.js';

const readme = new URL('../../README.md', import.meta.url);
writeFileSync(readme, replaceConfigTable(readFileSync(readme, 'utf8')));
