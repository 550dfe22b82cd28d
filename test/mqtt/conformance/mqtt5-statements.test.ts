import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { statements } from './mqtt5-statements.js';

/** The numbered statements of each section; those of 2.2.1 begin with 2. */
const sections =
  '1.5.4:3 1.5.5:1 1.5.7:1 2.1.3:1 2.2.1:6 2.2.2:1 3.1.0:2 3.1.2:30 3.1.3:12 3.1.4:6 3.2.0:2 3.2.2:22 3.3.1:13 ' +
  '3.3.2:20 3.3.4:10 3.4.2:3 3.5.2:3 3.6.1:1 3.6.2:3 3.7.2:3 3.8.1:1 3.8.3:5 3.8.4:8 3.9.2:2 3.9.3:2 3.10.1:1 ' +
  '3.10.3:2 3.10.4:6 3.11.2:2 3.11.3:2 3.12.4:1 3.14.0:1 3.14.1:1 3.14.2:4 3.14.4:3 3.15.1:1 3.15.2:3 4.1.0:2 ' +
  '4.2.0:1 4.3.1:1 4.3.2:5 4.3.3:13 4.4.0:2 4.5.0:2 4.6.0:6 4.7.0:1 4.7.1:2 4.7.2:1 4.7.3:4 4.8.2:6 4.9.0:3 ' +
  '4.12.0:7 4.12.1:2 4.13.1:1 4.13.2:1 6.0.0:4';

it('the table has every statement, once, in order', () => {
  const expected = sections.split(' ').flatMap((section) => {
    const [name, count] = section.split(':');
    const numbers = Array.from({ length: Number(count) }, (_, index) => `${name}-${index + 1}`);
    return numbers.filter((id) => id !== '2.2.1-1');
  });
  expect(statements.map(([id]) => id)).toEqual(expected);
});

it('each test that it names is there, and names the statement', () => {
  const problems = statements.flatMap(([id, file, name]) => {
    if (name === undefined) return [];
    const source = readFileSync(new URL(`../${file}`, import.meta.url), 'utf8');
    if (!source.includes(name)) return [`${id}: ${file} has no test ${name}`];
    return nameOf(name).includes(id) ? [] : [`${id} is not in the name of its test ${name}`];
  });
  expect(problems).toEqual([]);
});

/** The statements that the name of a test carries: [MQTT-3.1.2-4], [MQTT-3.1.2-4, 3.1.2-5] or [MQTT-3.1.2-4..6]. */
function nameOf(name: string): string[] {
  return [...name.matchAll(/\[MQTT-([^\]]*)\]/g)].flatMap(([, list = '']) =>
    list.split(/,\s*/).flatMap((item) => {
      const [, section, from, to = from] = /^(?:MQTT-)?(\d+\.\d+\.\d+)-(\d+)(?:\.\.(\d+))?$/.exec(item) ?? [];
      const first = Number(from);
      return Array.from({ length: Number(to) - first + 1 || 0 }, (_, index) => `${section}-${first + index}`);
    }),
  );
}
