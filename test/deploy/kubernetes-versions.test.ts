import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it, test } from 'vitest';
import { stringify } from 'yaml';
import { chart, fullValues, renderText } from './support/chart.js';
import { parseYaml, readText } from './support/files.js';
import { readDeployFiles } from './support/kubernetes-files.js';
import { helm, kubectl, python, run, works } from './support/programs.js';

/** The oldest that deploy/ is for, and a current one. */
const versions = ['1.27', '1.37'];
/** Kinds of others, which Kubernetes' own schemas do not have. */
const foreign = ['Certificate', 'ServiceMonitor'];

const lacks = [
  ...(works(helm, ['version']) ? [] : ['helm']),
  ...(works(kubectl, ['version', '--client']) ? [] : ['kubectl']),
  ...(works(python, ['-c', 'import kubernetes_validate']) ? [] : ['the Python package kubernetes-validate']),
];
const missing = lacks.length > 0 && process.env.CI === undefined;

it('helm, kubectl and kubernetes-validate are installed', ({ skip }) => {
  skip(missing, `not installed: ${lacks.join(', ')}`);
});

test('the chart is for no older version than is checked', () => {
  expect(parseYaml(readText(`${chart}/Chart.yaml`))[0]).toMatchObject({
    kubeVersion: `>=${versions[0]}.0-0`,
  });
  expect(readText('deploy/README.md')).toContain(`Kubernetes ${versions[0]} or later`);
});

describe.skipIf(missing)('what Kubernetes is given', () => {
  const directory = mkdtempSync(join(tmpdir(), 'svc-mqtt-kubernetes-'));
  afterAll(() => rmSync(directory, { recursive: true, force: true }));

  const kustomized = missing ? '' : run(kubectl, ['kustomize', 'deploy']).stdout;
  const texts: Record<string, string> = missing
    ? {}
    : {
        'the manifests': kustomized,
        'the chart': renderText().stdout,
        'the chart with everything turned on': renderText(fullValues, 'gateway', 'fleet').stdout,
      };

  /** The objects that the schemas of a version refuse, with the reason, and how many they know. */
  function validate(text: string, version: string): { problems: string[]; valid: number } {
    const objects = parseYaml(text).filter(
      (object) => object !== null && !foreign.includes((object as { kind: string }).kind),
    );
    const file = join(directory, 'objects.yaml');
    writeFileSync(file, objects.map((object) => stringify(object)).join('---\n'));
    const { stdout, stderr } = run(python, ['-m', 'kubernetes_validate', '-k', version, '--strict', file]);
    const lines = `${stdout}${stderr}`.split('\n').filter((line) => line !== '');
    const isPassed = (line: string) => /^INFO .* passed .* against version/.test(line);
    return { problems: lines.filter((line) => !isPassed(line)), valid: lines.filter(isPassed).length };
  }

  const cases = versions.flatMap((version) =>
    ['the manifests', 'the chart', 'the chart with everything turned on'].map(
      (what) => [what, version] as const,
    ),
  );
  test.each(cases)('%s, is what version %s knows', (what, version) => {
    const text = texts[what] ?? '';
    const known = parseYaml(text).filter(
      (object) => object !== null && !foreign.includes((object as { kind: string }).kind),
    );
    expect(known.length).toBeGreaterThan(3);
    expect(validate(text, version)).toEqual({ problems: [], valid: known.length });
  });

  test('is refused where it is wrong', () => {
    const wrong = kustomized.replace('readOnlyRootFilesystem', 'readOnlyRootFileSystem');
    expect(wrong).not.toBe(kustomized);
    expect(validate(wrong, versions[1] ?? '').problems.join('\n')).toContain('readOnlyRootFileSystem');
  });

  test('has every object that the checks of the files see', () => {
    const secrets = readDeployFiles().objects.filter(({ kind }) => kind !== 'Secret');
    expect(parseYaml(kustomized)).toHaveLength(secrets.length);
  });
});
