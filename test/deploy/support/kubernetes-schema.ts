import * as certManagerV1 from '@kubernetes-models/cert-manager/cert-manager.io/v1';
import * as monitoringV1 from '@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1';
import * as appsV1 from 'kubernetes-models/apps/v1';
import * as autoscalingV2 from 'kubernetes-models/autoscaling/v2';
import * as networkingV1 from 'kubernetes-models/networking.k8s.io/v1';
import * as policyV1 from 'kubernetes-models/policy/v1';
import * as coreV1 from 'kubernetes-models/v1';

const modules: Record<string, Record<string, unknown>> = {
  v1: coreV1,
  'apps/v1': appsV1,
  'autoscaling/v2': autoscalingV2,
  'networking.k8s.io/v1': networkingV1,
  'policy/v1': policyV1,
  'cert-manager.io/v1': certManagerV1,
  'monitoring.coreos.com/v1': monitoringV1,
};

/**
 * Checks one object against the schema of its kind, as the package kubernetes-models and its relatives carry it.
 *
 * The schemas allow unknown fields, as Kubernetes' own do, but a misspelt field is the commonest mistake of all. So
 * the object is shown to the schema through a proxy that remembers which fields were looked at: a field that no rule
 * of the schema has looked at is one that the schema does not know.
 *
 * @returns what is wrong, empty when nothing is.
 */
export function checkSchema(object: unknown): string[] {
  const { apiVersion, kind } = object as { apiVersion?: string; kind?: string };
  const model = modules[apiVersion ?? '']?.[kind ?? ''];
  if (typeof model !== 'function') return [`there is no schema for ${apiVersion} ${kind}`];
  const { watched, listUnread } = watchReads(object as object);
  const problems: string[] = [];
  try {
    (model.prototype as { validate(): void }).validate.call(watched);
  } catch (error) {
    const { errors } = error as { errors?: readonly { instancePath: string; message?: string }[] };
    if (errors === undefined) throw error;
    problems.push(...errors.map((each) => `${each.instancePath} ${each.message ?? 'is wrong'}`));
  }
  problems.push(...listUnread().map((path) => `${path} is not a field that ${kind} knows`));
  return problems.map((problem) => `${kind}: ${problem}`);
}

function watchReads(target: object): { watched: object; listUnread(): string[] } {
  const read = new Map<object, Set<string>>();
  const proxies = new WeakMap<object, object>();
  const watch = (value: object): object => {
    const known = proxies.get(value);
    if (known !== undefined) return known;
    const keys = new Set<string>();
    read.set(value, keys);
    const proxy = new Proxy(value, {
      get(from, key, receiver) {
        if (typeof key === 'string') keys.add(key);
        const field: unknown = Reflect.get(from, key, receiver);
        return typeof field === 'object' && field !== null ? watch(field) : field;
      },
    });
    proxies.set(value, proxy);
    return proxy;
  };
  const walk = (value: object, path: string): string[] =>
    Object.entries(value).flatMap(([key, field]) => {
      if (read.get(value)?.has(key) !== true) return [`${path}/${key}`];
      return typeof field === 'object' && field !== null ? walk(field, `${path}/${key}`) : [];
    });
  return { watched: watch(target), listUnread: () => walk(target, '') };
}
