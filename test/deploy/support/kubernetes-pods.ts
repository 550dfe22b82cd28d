import type { IContainer, IEnvVar, IProbe, ISecret } from 'kubernetes-models/v1';
import { settings } from '../../../src/config.js';
import {
  findContainerPort,
  isSelected,
  type KubernetesObject,
  keysOf,
  listKind,
  nameOf,
  namespaceOf,
  type Workload,
} from './kubernetes-objects.js';

/** Checks that what a pod names exists: secrets, ConfigMaps, claims, volumes, ports and variables. */
export function checkPod(workload: Workload, objects: readonly KubernetesObject[]): string[] {
  const problems = [
    ...checkVolumes(workload, objects),
    ...workload.containers.flatMap((container) => checkContainer(container, workload, objects)),
  ];
  if (!isSelected(workload.selector, workload.labels) || Object.keys(workload.selector).length === 0) {
    problems.push('its selector does not select its own pods');
  }
  for (const spread of workload.pod.topologySpreadConstraints ?? []) {
    if (!isSelected(spread.labelSelector?.matchLabels ?? { missing: '' }, workload.labels)) {
      problems.push(`its topology spread over ${spread.topologyKey} does not select its own pods`);
    }
  }
  return problems.map((problem) => `${workload.title}: ${problem}`);
}

function checkVolumes(workload: Workload, objects: readonly KubernetesObject[]): string[] {
  const problems: string[] = [];
  const here = objects.filter((object) => namespaceOf(object) === workload.namespace);
  for (const volume of workload.pod.volumes ?? []) {
    const claim = volume.persistentVolumeClaim?.claimName;
    if (
      claim !== undefined &&
      !listKind(here, 'PersistentVolumeClaim').some((each) => nameOf(each) === claim)
    ) {
      problems.push(`volume ${volume.name} names the claim ${claim}, which does not exist`);
    }
    const { configMap } = volume;
    if (configMap !== undefined) {
      const keys = (configMap.items ?? []).map((item) => item.key);
      problems.push(...checkKeys(listKind(here, 'ConfigMap'), 'ConfigMap', configMap.name ?? '', keys));
    }
    if (volume.secret !== undefined) {
      const keys = (volume.secret.items ?? []).map((item) => item.key);
      problems.push(...checkKeys(listKind(here, 'Secret'), 'Secret', volume.secret.secretName ?? '', keys));
    }
  }
  const mounted = new Set(
    workload.containers.flatMap((each) => each.volumeMounts ?? []).map((mount) => mount.name),
  );
  problems.push(
    ...[...mounted]
      .filter((name) => !workload.volumes.includes(name))
      .map((name) => `volume ${name} is mounted and not declared`),
    ...workload.volumes
      .filter((name) => !mounted.has(name))
      .map((name) => `volume ${name} is declared and not mounted`),
  );
  return problems;
}

function checkKeys(
  candidates: readonly Parameters<typeof keysOf>[0][],
  kind: string,
  name: string,
  keys: readonly string[],
): string[] {
  const found = candidates.find((each) => nameOf(each) === name);
  if (found === undefined) return [`${kind} ${name} does not exist`];
  return keys.filter((key) => !keysOf(found).includes(key)).map((key) => `${kind} ${name} has no key ${key}`);
}

function checkContainer(
  container: IContainer,
  workload: Workload,
  objects: readonly KubernetesObject[],
): string[] {
  const problems: string[] = [];
  const here = objects.filter((object) => namespaceOf(object) === workload.namespace);
  const declared = new Set<string>();
  for (const variable of container.env ?? []) {
    if (declared.has(variable.name)) problems.push(`variable ${variable.name} is set twice`);
    const { secretKeyRef, configMapKeyRef } = variable.valueFrom ?? {};
    if (secretKeyRef !== undefined) {
      problems.push(
        ...checkKeys(listKind(here, 'Secret'), 'Secret', secretKeyRef.name ?? '', [secretKeyRef.key]),
      );
    }
    if (configMapKeyRef !== undefined) {
      const name = configMapKeyRef.name ?? '';
      problems.push(...checkKeys(listKind(here, 'ConfigMap'), 'ConfigMap', name, [configMapKeyRef.key]));
    }
    problems.push(...checkExpansions(variable.value ?? '', declared));
    declared.add(variable.name);
  }
  for (const text of [...(container.command ?? []), ...(container.args ?? [])]) {
    problems.push(...checkExpansions(text, declared));
  }
  for (const name of ['startupProbe', 'readinessProbe', 'livenessProbe'] as const) {
    problems.push(...checkProbe(name, container[name], workload));
  }
  return problems;
}

/** `$(NAME)` in a value is expanded only where NAME is declared before it, and stays as it is elsewhere. */
function checkExpansions(text: string, declared: ReadonlySet<string>): string[] {
  return [...text.matchAll(/\$\(([^)]+)\)/g)]
    .filter(([, name]) => !declared.has(name ?? ''))
    .map(([, name]) => `$(${name}) is not a variable declared before its use`);
}

function checkProbe(name: string, probe: IProbe | undefined, workload: Workload): string[] {
  if (probe === undefined) return [`it has no ${name}`];
  const port = probe.httpGet?.port ?? probe.tcpSocket?.port;
  if (port !== undefined && findContainerPort(workload, port) === undefined) {
    return [`${name} asks port ${port}, which no container has`];
  }
  return [];
}

/** Checks what the restricted pod security profile and this project ask of every pod. */
export function checkPodSecurity({ title, pod, containers }: Workload): string[] {
  const rules: [boolean, string][] = [
    [pod.automountServiceAccountToken === false, 'mounts a service account token'],
    [pod.securityContext?.runAsNonRoot === true, 'may run as root'],
    [(pod.securityContext?.runAsUser ?? 0) > 0, 'has no numeric user other than root'],
    [pod.securityContext?.seccompProfile?.type === 'RuntimeDefault', 'has no seccomp profile'],
    [
      pod.hostNetwork !== true && pod.hostPID !== true && pod.hostIPC !== true,
      'shares a namespace of the host',
    ],
    ...containers.flatMap((container): [boolean, string][] => {
      const { securityContext: context, resources } = container;
      const drop: readonly string[] = context?.capabilities?.drop ?? [];
      return [
        [context?.allowPrivilegeEscalation === false, 'allows privilege escalation'],
        [context?.readOnlyRootFilesystem === true, 'can write its root file system'],
        [drop.includes('ALL') && context?.capabilities?.add === undefined, 'keeps capabilities'],
        [resources?.limits?.memory !== undefined, 'has no limit of memory'],
        [
          resources?.requests?.cpu !== undefined && resources.requests.memory !== undefined,
          'requests no resources',
        ],
      ];
    }),
  ];
  return rules.filter(([kept]) => !kept).map(([, problem]) => `${title}: ${problem}`);
}

/** Checks that the drain at shutdown ends before Kubernetes ends it. */
export function checkGracePeriod({ title, pod, containers }: Workload, drainSec: number): string[] {
  const sleeps = containers.map((container) => {
    const [command, seconds] = container.lifecycle?.preStop?.exec?.command ?? [];
    return command === 'sleep' ? Number(seconds) : 0;
  });
  const neededSec = Math.max(0, ...sleeps) + drainSec;
  const graceSec = pod.terminationGracePeriodSeconds ?? 30;
  if (graceSec > neededSec) return [];
  return [
    `${title}: terminationGracePeriodSeconds ${graceSec} is not over the ${neededSec} that a shutdown takes`,
  ];
}

/** The environment of a container, with the values of Secrets filled in. */
export function resolveEnvironment(
  variables: readonly IEnvVar[],
  secrets: readonly ISecret[],
): Record<string, string> {
  return Object.fromEntries(
    variables.map((variable) => {
      const { name, key } = variable.valueFrom?.secretKeyRef ?? {};
      const secret = secrets.find((each) => nameOf(each) === name);
      return [variable.name, variable.value ?? secret?.stringData?.[key ?? ''] ?? ''];
    }),
  );
}

/** Seconds of the drain that an environment asks for. */
export function drainSecOf(env: Readonly<Record<string, string>>): number {
  return Number(env.SHUTDOWN_TIMEOUT_SEC ?? settings.shutdownTimeoutSec.default);
}
