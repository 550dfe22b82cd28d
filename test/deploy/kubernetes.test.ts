import { describe, expect, test } from 'vitest';
import { put } from './support/change.js';
import { checkEnvironment } from './support/environment.js';
import { readText } from './support/files.js';
import { checkDeployFiles, findWorkload, ownEnvironment } from './support/kubernetes-check.js';
import { readDeployFiles } from './support/kubernetes-files.js';
import { listKind, listWorkloads, titleOf } from './support/kubernetes-objects.js';
import { checkSchema } from './support/kubernetes-schema.js';

const files = readDeployFiles();

describe('the files of deploy', () => {
  test('are complete and agree with each other, with the configuration and with Kubernetes', () => {
    expect(checkDeployFiles(files)).toEqual([]);
  });

  test('hold what a deployment needs', () => {
    expect(files.objects.map(titleOf)).toEqual(
      expect.arrayContaining([
        'Namespace scadable-io',
        'PersistentVolumeClaim postgres-data',
        'StatefulSet postgres',
        'StatefulSet nats',
        'Deployment svc-mqtt',
        'Service svc-mqtt',
        'Ingress svc-mqtt',
        'ConfigMap tcp-services',
        'Secret svc-mqtt',
        'PodDisruptionBudget svc-mqtt',
        'NetworkPolicy default-deny',
      ]),
    );
  });

  test('lead from outside to every route of the API that is for others than the cluster', () => {
    const ingress = listKind(files.objects, 'Ingress').flatMap((each) => each.spec?.rules ?? []);
    const paths = ingress.flatMap((rule) => rule.http?.paths ?? []);
    const leads = (route: string) =>
      paths.some(({ path = '', pathType }) =>
        pathType === 'Exact' ? path === route : route === path || route.startsWith(`${path}/`),
      );
    // A test of its own holds the document to the routes.
    const routes = [...readText('docs/access.md').matchAll(/^\| `[A-Z]+ (\/\S*)` \|/gm)].map(
      ([, route = '']) => route,
    );
    expect(routes).toContain('/devices');
    const inside = ['/metrics'];
    expect(routes.filter((route) => !leads(route))).toEqual(inside);
    expect(['/claims/redeem', '/docs/index.html', '/openapi.json'].filter((route) => !leads(route))).toEqual(
      [],
    );
    expect(['/healthz', '/readyz'].filter(leads)).toEqual([]);
  });

  test('cannot be used with the values of the example', () => {
    const env = ownEnvironment(
      files.objects,
      findWorkload(listWorkloads(files.objects), 'Deployment svc-mqtt'),
    );
    expect(checkEnvironment(env)).toEqual([expect.stringContaining('API_TOKEN cannot be the given value')]);
  });
});

/** Objects whose keys are data, where any key is as good as another. */
const freeForm = /\/(labels|annotations|matchLabels|selector|data|stringData|requests|limits)$/;

function listPlaces(value: unknown, path: readonly (string | number)[] = []): (string | number)[][] {
  if (typeof value !== 'object' || value === null) return [];
  const children = Object.entries(value).flatMap(([key, field]) =>
    listPlaces(field, [...path, Array.isArray(value) ? Number(key) : key]),
  );
  return Array.isArray(value) || freeForm.test(`/${path.join('/')}`) ? children : [[...path], ...children];
}

test('the check of deploy finds an unknown field in every place of every object', () => {
  const missed: string[] = [];
  let places = 0;
  for (const object of files.objects) {
    for (const place of listPlaces(object)) {
      places += 1;
      const copy = structuredClone(object);
      put(copy, [...place, 'unknownField'], 'x');
      const found = checkSchema(copy).some((problem) => problem.includes('/unknownField is not a field'));
      if (!found) missed.push(`${titleOf(object)} /${place.join('/')}`);
    }
  }
  expect(missed).toEqual([]);
  expect(places).toBeGreaterThan(200);
});
