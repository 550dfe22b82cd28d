import { parseYaml } from './files.js';
import type { KubernetesObject } from './kubernetes-objects.js';
import { type Ended, helm, run } from './programs.js';

export const chart = 'deploy/helm/svc-mqtt';

/** What `helm template` says to some values, as YAML. */
export function renderText(values: object = {}, release = 'svc-mqtt', namespace = 'scadable-io'): Ended {
  const args = ['template', release, chart, '--namespace', namespace, '--values', '-'];
  return run(helm, args, JSON.stringify(values));
}

/** The objects that the chart makes of some values. */
export function render(values: object = {}): KubernetesObject[] {
  const { status, stdout, stderr } = renderText(values);
  if (status !== 0) throw new Error(stderr);
  return parseYaml(stdout).filter((object) => object !== null) as KubernetesObject[];
}

/** Values that turn everything on. */
export const fullValues = {
  replicas: 3,
  image: { repository: 'registry.example.com/svc-mqtt', tag: '1.2.3', pullSecrets: ['pull'] },
  database: { secret: 'app-db', key: 'uri' },
  nats: {
    secret: 'nats-client',
    userKey: '',
    passwordKey: '',
    credsKey: 'user.creds',
    caKey: 'ca.crt',
    monitorUrl: 'http://nats-0:8222,http://nats-1:8222',
  },
  tls: {
    enabled: true,
    plain: false,
    clusterIssuer: 'letsencrypt',
    hosts: ['mqtt.example.com'],
    clientCaSecret: 'device-ca',
  },
  loadBalancer: {
    enabled: true,
    annotations: { 'example.com/kind': 'tcp' },
    sourceRanges: ['203.0.113.0/24'],
    externalTrafficPolicy: 'Local',
  },
  proxyProtocolFrom: ['10.0.0.0/8', 'fd00::/8'],
  ingress: { enabled: true, host: 'mqtt.example.com' },
  env: { MAX_CONNECTIONS: 5_000_000, DEVICE_EVENTS: true, MAX_SESSION_EXPIRY: '7d' },
  shutdownTimeoutSec: 60,
  autoscaling: { enabled: true },
  serviceMonitor: { enabled: true, secret: 'prometheus-key', labels: { release: 'prometheus' } },
  networkPolicy: { egressTo: [{ ipBlock: { cidr: '10.1.0.0/16' } }] },
  podLabels: { 'scadable.io/nats-client': 'true' },
  podAnnotations: { 'example.com/note': 'z' },
  nodeSelector: { 'kubernetes.io/arch': 'amd64' },
  tolerations: [{ key: 'devices', operator: 'Exists' }],
};
