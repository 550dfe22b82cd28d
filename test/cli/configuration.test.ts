import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { renderConfigTable, replaceConfigTable } from '../../src/cli/config/table.js';
import { settingEntries } from '../../src/config.js';
import { projectDir } from './support.js';

test('docs/configuration.md holds the table of settings as the schema has it; `npm run docs:config` rewrites it', () => {
  const page = readFileSync(join(projectDir, 'docs', 'configuration.md'), 'utf8');
  expect(page).toBe(replaceConfigTable(page));
});

test('the table has a row a setting, with every variable, and offers no secret as an argument', () => {
  const rows = renderConfigTable().split('\n').slice(2);
  expect(rows).toHaveLength(settingEntries.length);
  settingEntries.forEach(([, entry], index) => {
    for (const variable of entry.env) expect(rows[index]).toContain(`\`${variable}\``);
    expect(rows[index]?.replaceAll('\\|', '').split('|')).toHaveLength(6);
  });
  const table = renderConfigTable();
  expect(table).toContain('`--api-token-file`');
  expect(table).not.toContain('`--api-token`');
  expect(table).toContain('`--database-url`, `--database-url-file`');
});

test('a document without both markers is refused, and nothing outside of them changes', () => {
  expect(() => replaceConfigTable('no markers')).toThrow(/config:start/);
  expect(() => replaceConfigTable('<!-- config:end --><!-- config:start -->')).toThrow(/in order/);
  const replaced = replaceConfigTable('a<!-- config:start -->outdated<!-- config:end -->b');
  expect(replaced.startsWith('a<!-- config:start -->')).toBe(true);
  expect(replaced.endsWith('<!-- config:end -->b')).toBe(true);
  expect(replaced).not.toContain('outdated');
});
