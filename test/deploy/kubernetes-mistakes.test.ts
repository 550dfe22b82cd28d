import { expect, test } from 'vitest';
import { put } from './support/change.js';
import { checkDeployFiles } from './support/kubernetes-check.js';
import { type DeployFiles, readDeployFiles } from './support/kubernetes-files.js';
import { titleOf } from './support/kubernetes-objects.js';

const files = readDeployFiles();

/** A copy of the files in which one place of one object is changed. */
function change(title: string, path: readonly (string | number)[], value: unknown): DeployFiles {
  const copy = structuredClone(files);
  const object = copy.objects.find((each) => titleOf(each) === title);
  if (object === undefined) throw new Error(`there is no ${title}`);
  put(object, path, value);
  return copy;
}

const pod = ['spec', 'template', 'spec'] as const;
const container = [...pod, 'containers', 0] as const;
const anotherName = { 'app.kubernetes.io/name': 'another' };

const mistakes: [string, DeployFiles, RegExp][] = [
  ['a missing required field', change('Deployment svc-mqtt', ['spec', 'selector'], undefined), /selector/],
  ['a wrong type', change('Deployment svc-mqtt', ['spec', 'replicas'], 'two'), /replicas must be integer/],
  ['an unknown kind', change('Service nats', ['kind'], 'Servce'), /no schema for v1 Servce/],
  ['an invalid name', change('Service nats', ['metadata', 'name'], 'Nats_1'), /no valid name/],
  [
    'a namespace that is not there',
    change('Service nats', ['metadata', 'namespace'], 'other'),
    /namespace "other"/,
  ],
  [
    'an object twice',
    change('Service nats-headless', ['metadata', 'name'], 'nats'),
    /Service nats is there twice/,
  ],
  [
    'a selector beside its pods',
    change('StatefulSet nats', ['spec', 'selector', 'matchLabels'], anotherName),
    /its own pods/,
  ],
  [
    'a spread beside its pods',
    change(
      'Deployment svc-mqtt',
      [...pod, 'topologySpreadConstraints', 0, 'labelSelector', 'matchLabels'],
      anotherName,
    ),
    /spread/,
  ],
  [
    'an unknown secret',
    change('Deployment svc-mqtt', [...container, 'env', 2, 'valueFrom', 'secretKeyRef', 'name'], 'x'),
    /Secret x does not exist/,
  ],
  [
    'an unknown key of a secret',
    change('Deployment svc-mqtt', [...container, 'env', 2, 'valueFrom', 'secretKeyRef', 'key'], 'X'),
    /has no key X/,
  ],
  [
    'an unknown ConfigMap',
    change('StatefulSet nats', [...pod, 'volumes', 0, 'configMap', 'name'], 'x'),
    /ConfigMap x does not exist/,
  ],
  [
    'an unknown key of a ConfigMap',
    change('StatefulSet nats', [...pod, 'volumes', 0, 'configMap', 'items', 0, 'key'], 'x'),
    /has no key x/,
  ],
  [
    'an unknown claim',
    change('StatefulSet postgres', [...pod, 'volumes', 0, 'persistentVolumeClaim', 'claimName'], 'x'),
    /the claim x/,
  ],
  [
    'a mount without a volume',
    change('Deployment svc-mqtt', [...container, 'volumeMounts', 0, 'name'], 'x'),
    /x is mounted and not declared/,
  ],
  [
    'a volume without a mount',
    change('Deployment svc-mqtt', [...container, 'volumeMounts', 0, 'name'], 'tmp'),
    /data is declared and not mounted/,
  ],
  [
    'a variable used before it is set',
    change('StatefulSet nats', [...container, 'args', 2], '--name=$(X)'),
    /\$\(X\)/,
  ],
  [
    'a variable set twice',
    change('Deployment svc-mqtt', [...container, 'env', 0, 'name'], 'LOG_FORMAT'),
    /LOG_FORMAT is set twice/,
  ],
  [
    'an unknown variable',
    change('Deployment svc-mqtt', [...container, 'env', 0, 'name'], 'SHUTDOWN_SEC'),
    /SHUTDOWN_SEC is not a variable/,
  ],
  [
    'a value out of range',
    change('Deployment svc-mqtt', [...container, 'env', 0, 'value'], '700'),
    /SHUTDOWN_TIMEOUT_SEC cannot be/,
  ],
  [
    'a grace period too short',
    change('Deployment svc-mqtt', [...pod, 'terminationGracePeriodSeconds'], 20),
    /not over the 20/,
  ],
  [
    'a missing probe',
    change('Deployment svc-mqtt', [...container, 'livenessProbe'], undefined),
    /no livenessProbe/,
  ],
  [
    'a probe of an unknown port',
    change('Deployment svc-mqtt', [...container, 'livenessProbe', 'httpGet', 'port'], 'web'),
    /asks port web/,
  ],
  [
    'a data directory that is not mounted',
    change('Deployment svc-mqtt', [...container, 'volumeMounts', 0, 'mountPath'], '/d'),
    /\/data cannot be written/,
  ],
  [
    'a service account token',
    change('Deployment svc-mqtt', [...pod, 'automountServiceAccountToken'], undefined),
    /service account token/,
  ],
  ['root', change('StatefulSet nats', [...pod, 'securityContext', 'runAsUser'], 0), /other than root/],
  [
    'a writable root',
    change('StatefulSet nats', [...container, 'securityContext', 'readOnlyRootFilesystem'], false),
    /write its root/,
  ],
  [
    'a kept capability',
    change('StatefulSet nats', [...container, 'securityContext', 'capabilities', 'drop'], ['KILL']),
    /keeps capabilities/,
  ],
  [
    'no seccomp profile',
    change('StatefulSet nats', [...pod, 'securityContext', 'seccompProfile'], undefined),
    /seccomp/,
  ],
  [
    'no limit of memory',
    change('StatefulSet nats', [...container, 'resources', 'limits'], undefined),
    /limit of memory/,
  ],
  [
    'a Service for no pod',
    change('Service svc-mqtt', ['spec', 'selector'], anotherName),
    /Service svc-mqtt: its selector/,
  ],
  [
    'a Service to no port',
    change('Service svc-mqtt', ['spec', 'ports', 0, 'targetPort'], 'mqtts'),
    /target port mqtts/,
  ],
  [
    'a StatefulSet without its Service',
    change('StatefulSet nats', ['spec', 'serviceName'], 'x'),
    /no headless Service/,
  ],
  [
    'an Ingress to no Service',
    change('Ingress svc-mqtt', ['spec', 'rules', 0, 'http', 'paths', 0, 'backend', 'service', 'name'], 'x'),
    /backend x/,
  ],
  [
    'an Ingress to no port',
    change(
      'Ingress svc-mqtt',
      ['spec', 'rules', 0, 'http', 'paths', 0, 'backend', 'service', 'port', 'name'],
      'x',
    ),
    /no such Service port/,
  ],
  [
    'an Ingress without its certificate',
    change('Ingress svc-mqtt', ['spec', 'tls', 0, 'secretName'], 'x'),
    /TLS secret x/,
  ],
  [
    'a host without TLS',
    change('Ingress svc-mqtt', ['spec', 'rules', 0, 'host'], 'x.example.com'),
    /x\.example\.com has no TLS/,
  ],
  [
    'tcp-services to another namespace',
    change('ConfigMap tcp-services', ['data', '1883'], 'default/svc-mqtt:1883'),
    /leads to no Service port/,
  ],
  [
    'tcp-services to another port',
    change('ConfigMap tcp-services', ['data', '1883'], 'scadable-io/svc-mqtt:1884'),
    /leads to no Service port/,
  ],
  [
    'a budget for no pod',
    change('PodDisruptionBudget svc-mqtt', ['spec', 'selector', 'matchLabels'], anotherName),
    /PodDisruptionBudget svc-mqtt/,
  ],
  [
    'a policy for no pod',
    change('NetworkPolicy nats', ['spec', 'podSelector', 'matchLabels'], anotherName),
    /podSelector selects no pod/,
  ],
  [
    'a policy with an unknown peer',
    change(
      'NetworkPolicy postgres',
      ['spec', 'ingress', 0, 'from', 0, 'podSelector', 'matchLabels'],
      anotherName,
    ),
    /a peer selects no pod/,
  ],
  [
    'a policy with an unknown namespace',
    change('NetworkPolicy svc-mqtt', ['spec', 'ingress', 0, 'from', 0, 'namespaceSelector', 'matchLabels'], {
      'kubernetes.io/metadata.name': 'x',
    }),
    /namespace x does not exist/,
  ],
  [
    'a policy with an unknown port',
    change('NetworkPolicy nats', ['spec', 'ingress', 0, 'ports', 0, 'port'], 'x'),
    /port x is no port/,
  ],
  [
    'no way into PostgreSQL',
    change('NetworkPolicy postgres', ['spec', 'ingress'], []),
    /DATABASE_URL names postgres:5432, which the policies/,
  ],
  [
    'no way out to NATS',
    change('NetworkPolicy nats-clients', ['spec', 'egress'], []),
    /NATS_URL names nats:4222, which the policies/,
  ],
  [
    'no way in for devices',
    change('NetworkPolicy svc-mqtt', ['spec', 'ingress', 0, 'ports'], [{ port: 'http' }]),
    /ingress controller reach mqtt/,
  ],
  [
    'a URL to an unknown host',
    change('Secret svc-mqtt', ['stringData', 'NATS_URL'], 'nats://queue:4222'),
    /queue:4222, which no Service has/,
  ],
  [
    'a URL to an unknown port',
    change('Secret svc-mqtt', ['stringData', 'NATS_URL'], 'nats://nats:4223'),
    /nats:4223, which no Service has/,
  ],
  [
    'a stream beside the volume',
    change('ConfigMap nats-config', ['data', 'nats.conf'], 'jetstream { store_dir: /tmp }'),
    /store_dir \/tmp/,
  ],
  [
    'a resource that is no file',
    {
      ...files,
      kustomization: { ...files.kustomization, resources: [...files.kustomization.resources, 'x.yaml'] },
    },
    /resource x\.yaml/,
  ],
  ['a file that is not listed', { ...files, names: [...files.names, 'y.yaml'] }, /y\.yaml is not listed/],
  [
    'a generated file that is not there',
    {
      ...files,
      kustomization: { ...files.kustomization, configMapGenerator: [{ name: 'z', files: ['z.conf'] }] },
    },
    /z\.conf does not exist/,
  ],
  [
    'an image that nothing uses',
    { ...files, kustomization: { ...files.kustomization, images: [{ name: 'x' }] } },
    /image x/,
  ],
];

test.each(mistakes)('the check of deploy finds %s', (_, changed, expected) => {
  expect(checkDeployFiles(changed).join('\n')).toMatch(expected);
});
