import type { INetworkPolicyPeer, INetworkPolicyPort } from 'kubernetes-models/networking.k8s.io/v1';
import {
  findContainerPort,
  isSelected,
  type KubernetesObject,
  type Labels,
  listKind,
  nameOf,
  namespaceOf,
  titleOf,
  type Workload,
} from './kubernetes-objects.js';

/** Namespaces that a cluster has, or may have, before these files are applied. */
export const givenNamespaces = ['kube-system', 'ingress-nginx', 'monitoring'];

/** Checks that Services, Ingresses, budgets, policies and tcp-services lead to something that exists. */
export function checkNetwork(objects: readonly KubernetesObject[], workloads: readonly Workload[]): string[] {
  return [
    ...checkServices(objects, workloads),
    ...checkIngresses(objects),
    ...checkTcpServices(objects),
    ...checkBudgets(objects, workloads),
    ...checkPolicies(objects, workloads),
  ];
}

function checkServices(objects: readonly KubernetesObject[], workloads: readonly Workload[]): string[] {
  const services = listKind(objects, 'Service').flatMap((service) => {
    const pods = selectWorkloads(workloads, namespaceOf(service), service.spec?.selector);
    if (pods.length === 0) return [`${titleOf(service)}: its selector selects no pod`];
    return (service.spec?.ports ?? [])
      .filter((port) =>
        pods.some((pod) => findContainerPort(pod, port.targetPort ?? port.port) === undefined),
      )
      .map(
        (port) => `${titleOf(service)}: target port ${port.targetPort ?? port.port} is no port of its pods`,
      );
  });
  const sets = listKind(objects, 'StatefulSet').flatMap((set) => {
    const service = findService(objects, namespaceOf(set), set.spec?.serviceName ?? '');
    return service?.spec?.clusterIP === 'None' ? [] : [`${titleOf(set)}: serviceName is no headless Service`];
  });
  return [...services, ...sets];
}

function selectWorkloads(
  workloads: readonly Workload[],
  namespace: string,
  selector: Labels | undefined,
): Workload[] {
  if (selector === undefined || Object.keys(selector).length === 0) return [];
  return workloads.filter((each) => each.namespace === namespace && isSelected(selector, each.labels));
}

function findService(objects: readonly KubernetesObject[], namespace: string, name: string) {
  return listKind(objects, 'Service').find(
    (each) => nameOf(each) === name && namespaceOf(each) === namespace,
  );
}

/** Whether a Service of that name has that port, by name or number. */
export function hasServicePort(
  objects: readonly KubernetesObject[],
  namespace: string,
  name: string,
  port: string | number | undefined,
): boolean {
  const ports = findService(objects, namespace, name)?.spec?.ports ?? [];
  return ports.some((each) => each.name === port || each.port === port);
}

function checkIngresses(objects: readonly KubernetesObject[]): string[] {
  return listKind(objects, 'Ingress').flatMap((ingress) => {
    const title = titleOf(ingress);
    const namespace = namespaceOf(ingress);
    const backends = (ingress.spec?.rules ?? []).flatMap((rule) => rule.http?.paths ?? []);
    const secrets = listKind(objects, 'Secret').filter(
      (each) => namespaceOf(each) === namespace && each.type === 'kubernetes.io/tls',
    );
    const covered = (ingress.spec?.tls ?? []).flatMap((tls) => tls.hosts ?? []);
    return [
      ...backends
        .map(({ backend: { service } }) => service)
        .filter(
          (service) =>
            !hasServicePort(
              objects,
              namespace,
              service?.name ?? '',
              service?.port?.name ?? service?.port?.number,
            ),
        )
        .map((service) => `${title}: backend ${service?.name} has no such Service port`),
      ...(ingress.spec?.tls ?? [])
        .filter((tls) => !secrets.some((secret) => nameOf(secret) === tls.secretName))
        .map((tls) => `${title}: TLS secret ${tls.secretName} does not exist`),
      ...(ingress.spec?.rules ?? [])
        .filter((rule) => !covered.includes(rule.host ?? ''))
        .map((rule) => `${title}: host ${rule.host} has no TLS`),
    ];
  });
}

function checkTcpServices(objects: readonly KubernetesObject[]): string[] {
  return listKind(objects, 'ConfigMap')
    .filter((each) => nameOf(each) === 'tcp-services')
    .flatMap((map) => Object.entries(map.data ?? {}))
    .flatMap(([port, target]) => {
      const [namespace = '', service = '', number = ''] =
        /^([^/]+)\/([^:]+):(\d+)$/.exec(target)?.slice(1) ?? [];
      if (/^\d+$/.test(port) && hasServicePort(objects, namespace, service, Number(number))) return [];
      return [`tcp-services: ${port} → ${target} leads to no Service port`];
    });
}

function checkBudgets(objects: readonly KubernetesObject[], workloads: readonly Workload[]): string[] {
  return listKind(objects, 'PodDisruptionBudget')
    .filter(
      (each) => selectWorkloads(workloads, namespaceOf(each), each.spec?.selector?.matchLabels).length === 0,
    )
    .map((each) => `${titleOf(each)}: its selector selects no pod`);
}

function checkPolicies(objects: readonly KubernetesObject[], workloads: readonly Workload[]): string[] {
  return listKind(objects, 'NetworkPolicy').flatMap((policy) => {
    const title = titleOf(policy);
    const selector = policy.spec?.podSelector.matchLabels;
    const pods = selectWorkloads(workloads, namespaceOf(policy), selector);
    if (selector !== undefined && pods.length === 0) return [`${title}: its podSelector selects no pod`];
    const ingress = (policy.spec?.ingress ?? []).flatMap(({ from, ports }) => [
      ...checkPeers(title, from, namespaceOf(policy), objects, workloads),
      ...checkPolicyPorts(title, ports, pods),
    ]);
    const egress = (policy.spec?.egress ?? []).flatMap(({ to, ports }) => [
      ...checkPeers(title, to, namespaceOf(policy), objects, workloads),
      ...checkPolicyPorts(
        title,
        ports,
        (to ?? []).flatMap((peer) => selectPeers(peer, namespaceOf(policy), workloads)),
      ),
    ]);
    return [...ingress, ...egress];
  });
}

/** Pods of these files that a peer without a namespace of its own names. */
function selectPeers(
  peer: INetworkPolicyPeer,
  namespace: string,
  workloads: readonly Workload[],
): Workload[] {
  return peer.namespaceSelector === undefined
    ? selectWorkloads(workloads, namespace, peer.podSelector?.matchLabels)
    : [];
}

function checkPeers(
  title: string,
  peers: readonly INetworkPolicyPeer[] | undefined,
  namespace: string,
  objects: readonly KubernetesObject[],
  workloads: readonly Workload[],
): string[] {
  const namespaces = [...givenNamespaces, ...listKind(objects, 'Namespace').map(nameOf)];
  return (peers ?? []).flatMap((peer) => {
    if (peer.ipBlock !== undefined) return [];
    const named = peer.namespaceSelector?.matchLabels?.['kubernetes.io/metadata.name'];
    if (peer.namespaceSelector !== undefined) {
      return namespaces.includes(named ?? '') ? [] : [`${title}: namespace ${named} does not exist`];
    }
    return selectPeers(peer, namespace, workloads).length > 0 ? [] : [`${title}: a peer selects no pod`];
  });
}

function checkPolicyPorts(
  title: string,
  ports: readonly INetworkPolicyPort[] | undefined,
  pods: readonly Workload[],
): string[] {
  return (ports ?? [])
    .filter(({ port }) => pods.some((pod) => findContainerPort(pod, port ?? '') === undefined))
    .map(({ port }) => `${title}: port ${port} is no port of the pods it is for`);
}

/** Where a connection comes from: a workload of these files, or any pod of another namespace. */
export type Origin = Workload | { readonly namespace: string; readonly labels: Labels };

/** Whether the policies let a connection through, at both of its ends. */
export function isAllowed(
  objects: readonly KubernetesObject[],
  from: Origin,
  to: Workload,
  port: string | number,
): boolean {
  const number = findContainerPort(to, port);
  const policiesOf = (origin: Origin, direction: 'Ingress' | 'Egress') =>
    listKind(objects, 'NetworkPolicy').filter(
      (each) =>
        namespaceOf(each) === origin.namespace &&
        isSelected(each.spec?.podSelector.matchLabels ?? {}, origin.labels) &&
        (each.spec?.policyTypes ?? []).includes(direction),
    );
  const hasPort = (ports: readonly INetworkPolicyPort[] | undefined) =>
    ports === undefined || ports.some((each) => findContainerPort(to, each.port ?? '') === number);
  const leaving = policiesOf(from, 'Egress');
  const entering = policiesOf(to, 'Ingress');
  const leaves =
    leaving.length === 0 ||
    leaving.some((each) =>
      (each.spec?.egress ?? []).some((rule) => hasPort(rule.ports) && isPeer(rule.to, to, namespaceOf(each))),
    );
  const enters =
    entering.length === 0 ||
    entering.some((each) =>
      (each.spec?.ingress ?? []).some(
        (rule) => hasPort(rule.ports) && isPeer(rule.from, from, namespaceOf(each)),
      ),
    );
  return leaves && enters;
}

function isPeer(
  peers: readonly INetworkPolicyPeer[] | undefined,
  { namespace, labels }: Origin,
  ownNamespace: string,
): boolean {
  if (peers === undefined) return true;
  return peers.some((peer) => {
    const inNamespace =
      peer.namespaceSelector === undefined
        ? namespace === ownNamespace
        : isSelected(peer.namespaceSelector.matchLabels ?? {}, { 'kubernetes.io/metadata.name': namespace });
    return inNamespace && isSelected(peer.podSelector?.matchLabels ?? {}, labels);
  });
}
