import { imageEnvironment, readStages } from './dockerfile.js';
import { checkEnvironment, listHosts } from './environment.js';
import { readText } from './files.js';
import { checkIdentities, checkKustomization, type DeployFiles } from './kubernetes-files.js';
import { checkNetwork, hasServicePort, isAllowed } from './kubernetes-network.js';
import { type KubernetesObject, listKind, listWorkloads, type Workload } from './kubernetes-objects.js';
import {
  checkGracePeriod,
  checkPod,
  checkPodSecurity,
  drainSecOf,
  resolveEnvironment,
} from './kubernetes-pods.js';
import { checkSchema } from './kubernetes-schema.js';
import { checkStoreDirectory } from './nats-config.js';

/** Everything that is wrong with a set of deploy files. */
export function checkDeployFiles({ names, objects, kustomization }: DeployFiles): string[] {
  // All that follows relies on the shapes that the schemas describe.
  const misshapen = objects.flatMap(checkSchema);
  if (misshapen.length > 0) return misshapen;
  const workloads = listWorkloads(objects);
  return [
    ...checkIdentities(objects),
    ...checkKustomization({ names, objects, kustomization }),
    ...workloads.flatMap((workload) => [...checkPod(workload, objects), ...checkPodSecurity(workload)]),
    ...checkNetwork(objects, workloads),
    ...checkService(objects, workloads),
    ...checkNats(objects, workloads),
  ];
}

/** What holds for svc-mqtt alone: its settings, the hosts they name, the way to them, its shutdown. */
function checkService(objects: readonly KubernetesObject[], workloads: readonly Workload[]): string[] {
  const own = findWorkload(workloads, 'Deployment svc-mqtt');
  const env = ownEnvironment(objects, own);
  // The example holds a token that is refused, so that it cannot be left there; another test sees to that.
  const problems = checkEnvironment({ ...env, API_TOKEN: 'a-token-of-enough-characters' });
  for (const { where, host, port } of listHosts(env)) {
    if (!hasServicePort(objects, own.namespace, host, port)) {
      problems.push(`${where} names ${host}:${port}, which no Service has`);
    }
    const target = workloads.find((each) => each.title === `StatefulSet ${host}`);
    if (target === undefined || !isAllowed(objects, own, target, port)) {
      problems.push(`${where} names ${host}:${port}, which the policies do not let it reach`);
    }
  }
  for (const port of ['mqtt', 'http']) {
    if (!isAllowed(objects, { namespace: 'ingress-nginx', labels: {} }, own, port)) {
      problems.push(`the policies do not let the ingress controller reach ${port}`);
    }
  }
  for (const variable of ['DATABASE_URL', 'NATS_URL', 'API_TOKEN']) {
    if ((env[variable] ?? '') === '') problems.push(`${variable} is not set`);
  }
  return [...problems, ...checkWritableDirectories(own), ...checkGracePeriod(own, drainSecOf(env))];
}

/** The environment of a svc-mqtt container, the image's included. */
export function ownEnvironment(objects: readonly KubernetesObject[], own: Workload): Record<string, string> {
  const image = imageEnvironment(readStages(readText('Dockerfile')));
  const variables = own.containers.flatMap((container) => container.env ?? []);
  return { ...image, ...resolveEnvironment(variables, listKind(objects, 'Secret')) };
}

function checkWritableDirectories(own: Workload): string[] {
  const mounts = own.containers.flatMap((container) => container.volumeMounts ?? []);
  const image = imageEnvironment(readStages(readText('Dockerfile')));
  return [image.DATA_DIR, '/tmp']
    .filter((path) => !mounts.some((mount) => mount.mountPath === path && mount.readOnly !== true))
    .map((path) => `${path} cannot be written`);
}

function checkNats(objects: readonly KubernetesObject[], workloads: readonly Workload[]): string[] {
  const map = listKind(objects, 'ConfigMap').find((each) => each.data?.['nats.conf'] !== undefined);
  const { containers } = findWorkload(workloads, 'StatefulSet nats');
  const mount = containers.flatMap((each) => each.volumeMounts ?? []).find(({ name }) => name === 'data');
  const args = containers.flatMap((each) => each.args ?? []);
  return checkStoreDirectory(map?.data?.['nats.conf'] ?? '', args, mount?.mountPath ?? '');
}

export function findWorkload(workloads: readonly Workload[], title: string): Workload {
  const found = workloads.find((workload) => workload.title === title);
  if (found === undefined) throw new Error(`there is no ${title}`);
  return found;
}
