import { basename } from 'node:path';
import { isInRepository, listDeployYaml, parseYaml, readText } from './files.js';
import { givenNamespaces } from './kubernetes-network.js';
import {
  type KubernetesObject,
  type Kustomization,
  listKind,
  listWorkloads,
  nameOf,
  namespaceOf,
  titleOf,
} from './kubernetes-objects.js';

/** What deploy holds: its objects, those of the examples, and the kustomization that names the files. */
export interface DeployFiles {
  readonly names: readonly string[];
  readonly objects: readonly KubernetesObject[];
  readonly kustomization: Kustomization;
}

const kustomizationFile = 'kustomization.yaml';

/** Reads deploy. What configMapGenerator would make is among the objects, under the name that the others use. */
export function readDeployFiles(): DeployFiles {
  const names = listDeployYaml();
  const kustomization = parseYaml(readText(`deploy/${kustomizationFile}`))[0] as Kustomization;
  const written = names
    .filter((name) => name !== kustomizationFile)
    .flatMap((name) => parseYaml(readText(`deploy/${name}`)) as KubernetesObject[]);
  const generated = (kustomization.configMapGenerator ?? []).map(
    ({ name, namespace, files }): KubernetesObject => ({
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name, ...(namespace === undefined ? {} : { namespace }) },
      data: Object.fromEntries(files.map((file) => [basename(file), readText(`deploy/${file}`)])),
    }),
  );
  return { names, objects: [...written, ...generated], kustomization };
}

/** Checks that the kustomization and the files beside it agree. */
export function checkKustomization({ names, objects, kustomization }: DeployFiles): string[] {
  const images = listWorkloads(objects).flatMap((each) => each.containers.map(({ image }) => image));
  const expected = names.filter((name) => name !== kustomizationFile && !name.endsWith('.example.yaml'));
  return [
    ...kustomization.resources
      .filter((name) => !expected.includes(name))
      .map((name) => `kustomization: resource ${name} is no file to apply`),
    ...expected
      .filter((name) => !kustomization.resources.includes(name))
      .map((name) => `kustomization: ${name} is not listed`),
    ...(kustomization.configMapGenerator ?? [])
      .flatMap((each) => each.files)
      .filter((file) => !isInRepository(`deploy/${file}`))
      .map((file) => `kustomization: ${file} does not exist`),
    ...(kustomization.images ?? [])
      .filter(({ name }) => !images.includes(name))
      .map(({ name }) => `kustomization: no container has the image ${name}`),
  ];
}

/** Checks names and namespaces: every object has a namespace that exists, and is there once. */
export function checkIdentities(objects: readonly KubernetesObject[]): string[] {
  const namespaces = listKind(objects, 'Namespace').map(nameOf);
  const seen = new Set<string>();
  return objects.flatMap((object) => {
    const title = titleOf(object);
    const identity = `${namespaceOf(object)}/${title}`;
    const problems: string[] = [];
    if (seen.has(identity)) problems.push(`${title} is there twice`);
    seen.add(identity);
    if (!/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/.test(nameOf(object)))
      problems.push(`${title} is no valid name`);
    const known = nameOf(object) === 'tcp-services' ? givenNamespaces : namespaces;
    if (object.kind !== 'Namespace' && !known.includes(namespaceOf(object))) {
      problems.push(`${title}: namespace "${namespaceOf(object)}" does not exist`);
    }
    return problems;
  });
}
