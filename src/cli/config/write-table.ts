/** The script behind `npm run docs:config`: writes the table of settings into docs/configuration.md. */
import { readFileSync, writeFileSync } from 'node:fs';
import { replaceConfigTable } from './table.js';

const page = new URL('../../../docs/configuration.md', import.meta.url);
writeFileSync(page, replaceConfigTable(readFileSync(page, 'utf8')));
