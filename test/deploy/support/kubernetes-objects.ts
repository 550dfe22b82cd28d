import type { IDeployment, IStatefulSet } from 'kubernetes-models/apps/v1';
import type { IHorizontalPodAutoscaler } from 'kubernetes-models/autoscaling/v2';
import type { IIngress, INetworkPolicy } from 'kubernetes-models/networking.k8s.io/v1';
import type { IPodDisruptionBudget } from 'kubernetes-models/policy/v1';
import type {
  IConfigMap,
  IContainer,
  INamespace,
  IPersistentVolumeClaim,
  IPodSpec,
  ISecret,
  IService,
} from 'kubernetes-models/v1';

export interface Kustomization {
  readonly resources: readonly string[];
  readonly configMapGenerator?: readonly { name: string; namespace?: string; files: readonly string[] }[];
  readonly images?: readonly { name: string; newName?: string; newTag?: string }[];
}

export type KubernetesObject =
  | IConfigMap
  | IDeployment
  | IHorizontalPodAutoscaler
  | IIngress
  | INamespace
  | INetworkPolicy
  | IPersistentVolumeClaim
  | IPodDisruptionBudget
  | ISecret
  | IService
  | IStatefulSet;

export type Kind = KubernetesObject['kind'];
export type ObjectOf<K extends Kind> = Extract<KubernetesObject, { kind: K }>;
export type Labels = Readonly<Record<string, string>>;

export function listKind<K extends Kind>(objects: readonly KubernetesObject[], kind: K): ObjectOf<K>[] {
  return objects.filter((object): object is ObjectOf<K> => object.kind === kind);
}

export function nameOf(object: KubernetesObject): string {
  return object.metadata?.name ?? '';
}

export function namespaceOf(object: KubernetesObject): string {
  return object.metadata?.namespace ?? '';
}

export function titleOf(object: KubernetesObject): string {
  return `${object.kind} ${nameOf(object)}`;
}

/** What makes pods, with what the checks look at. */
export interface Workload {
  readonly title: string;
  readonly namespace: string;
  readonly labels: Labels;
  readonly selector: Labels;
  readonly pod: IPodSpec;
  readonly containers: readonly IContainer[];
  /** Names of the volumes that the pod declares or that its claim templates make. */
  readonly volumes: readonly string[];
}

export function listWorkloads(objects: readonly KubernetesObject[]): Workload[] {
  return [...listKind(objects, 'Deployment'), ...listKind(objects, 'StatefulSet')].map((object) => {
    const pod = object.spec?.template.spec ?? { containers: [] };
    const claims = object.kind === 'StatefulSet' ? (object.spec?.volumeClaimTemplates ?? []) : [];
    return {
      title: titleOf(object),
      namespace: namespaceOf(object),
      labels: object.spec?.template.metadata?.labels ?? {},
      selector: object.spec?.selector.matchLabels ?? {},
      pod,
      containers: [...(pod.initContainers ?? []), ...pod.containers],
      volumes: [
        ...(pod.volumes ?? []).map((volume) => volume.name),
        ...claims.map((claim) => claim.metadata?.name ?? ''),
      ],
    };
  });
}

/** Whether labels carry all that a selector asks for. */
export function isSelected(selector: Labels, labels: Labels): boolean {
  return Object.entries(selector).every(([key, value]) => labels[key] === value);
}

/** The number of a port that is given by name or number, when one of the containers has it. */
export function findContainerPort(workload: Workload, port: string | number): number | undefined {
  const ports = workload.containers.flatMap((container) => container.ports ?? []);
  return ports.find((each) => each.name === port || each.containerPort === port)?.containerPort;
}

/** The keys of a Secret or ConfigMap. */
export function keysOf(object: ISecret | IConfigMap): string[] {
  const text = object.kind === 'Secret' ? object.stringData : undefined;
  return [...Object.keys(object.data ?? {}), ...Object.keys(text ?? {})];
}
