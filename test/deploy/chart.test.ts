import type { IContainer } from 'kubernetes-models/v1';
import { describe, expect, it, test } from 'vitest';
import { chart, fullValues, render, renderText } from './support/chart.js';
import { imageEnvironment, readStages } from './support/dockerfile.js';
import { checkEnvironment } from './support/environment.js';
import { parseYaml, readText } from './support/files.js';
import { findWorkload } from './support/kubernetes-check.js';
import { readDeployFiles } from './support/kubernetes-files.js';
import { checkNetwork } from './support/kubernetes-network.js';
import {
  type Kind,
  type KubernetesObject,
  listKind,
  listWorkloads,
  type ObjectOf,
  titleOf,
} from './support/kubernetes-objects.js';
import {
  checkGracePeriod,
  checkPodSecurity,
  drainSecOf,
  resolveEnvironment,
} from './support/kubernetes-pods.js';
import { checkSchema } from './support/kubernetes-schema.js';
import { helm, run, works } from './support/programs.js';

const missing = !works(helm, ['version']) && process.env.CI === undefined;
const values = parseYaml(readText(`${chart}/values.yaml`))[0] as Record<string, unknown>;

it('helm is installed', ({ skip }) => {
  skip(missing, 'helm is not installed: the chart is not rendered');
});

test('the chart has the version of the program', () => {
  const { version } = JSON.parse(readText('package.json')) as { version: string };
  expect(parseYaml(readText(`${chart}/Chart.yaml`))[0]).toMatchObject({ version, appVersion: version });
});

interface Schema {
  readonly additionalProperties?: unknown;
  readonly properties?: Readonly<Record<string, Schema>>;
}

/** Where the schema and the values name other things; what is free in the schema is so in the values. */
function compareNames(schema: Schema, given: unknown, path = ''): string[] {
  if (schema.properties === undefined) return [];
  const names = Object.keys(given as object);
  const described = Object.keys(schema.properties).filter((name) => name !== 'global');
  return [
    ...(schema.additionalProperties === false ? [] : [`${path} takes any name`]),
    ...names.filter((name) => !described.includes(name)).map((name) => `${path}/${name} is not described`),
    ...described.filter((name) => !names.includes(name)).map((name) => `${path}/${name} has no default`),
    ...names.flatMap((name) =>
      compareNames(
        schema.properties?.[name] ?? {},
        (given as Record<string, unknown>)[name],
        `${path}/${name}`,
      ),
    ),
  ];
}

test('the schema of the values knows each of them, and no other', () => {
  const schema = JSON.parse(readText(`${chart}/values.schema.json`)) as Schema;
  // The kinds of resources are Kubernetes' own.
  expect(compareNames(schema, values)).toEqual([]);
});

function only<K extends Kind>(objects: readonly KubernetesObject[], kind: K, name = 'svc-mqtt'): ObjectOf<K> {
  const found = listKind(objects, kind).filter((each) => each.metadata?.name === name);
  expect(found, `${kind} ${name}`).toHaveLength(1);
  return found[0] as ObjectOf<K>;
}

/** The same without labels and what selects by them, which a chart has more of. */
function withoutLabels(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutLabels);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([name]) => !['labels', 'matchLabels'].includes(name))
      .map(([name, field]) => [name, withoutLabels(field)]),
  );
}

describe.skipIf(missing)('the chart', () => {
  const manifests = readDeployFiles();

  test.each([
    ['its defaults', {}],
    ['everything turned on', fullValues],
  ])('passes the check of Helm with %s', (_, given) => {
    const { stdout, stderr, status } = run(
      helm,
      ['lint', '--strict', chart, '--values', '-'],
      JSON.stringify(given),
    );
    expect(status, `${stdout}${stderr}`).toBe(0);
  });

  describe('as it is by default', () => {
    const objects = missing ? [] : render();

    test('makes the pods that the manifests make', () => {
      const written = only(manifests.objects, 'Deployment').spec;
      const rendered = only(objects, 'Deployment').spec;
      const [container] = written?.template.spec?.containers ?? [];
      const [own] = rendered?.template.spec?.containers ?? [];
      if (container === undefined || own === undefined) throw new Error('there is no container');
      const sortEnv = ({ env = [], ...rest }: IContainer) => ({
        ...rest,
        env: [...env].sort((a, b) => a.name.localeCompare(b.name)),
      });
      const [image] = manifests.kustomization.images ?? [];
      expect(sortEnv(own)).toEqual({
        ...sortEnv(container),
        image: `${image?.newName}:${image?.newTag}`,
        imagePullPolicy: 'IfNotPresent',
      });
      const pod = (spec: typeof written) =>
        withoutLabels({
          ...spec,
          template: { ...spec?.template, spec: { ...spec?.template.spec, containers: [] } },
        });
      expect(pod(rendered)).toEqual(pod(written));
    });

    test('asks the policies for what the manifests ask', () => {
      const ports = ({ spec }: ObjectOf<'Service'>) => spec?.ports;
      expect(ports(only(objects, 'Service'))).toEqual(ports(only(manifests.objects, 'Service')));
      const budget = (all: readonly KubernetesObject[]) =>
        withoutLabels(only(all, 'PodDisruptionBudget').spec);
      expect(budget(objects)).toEqual(budget(manifests.objects));
      const policy = (all: readonly KubernetesObject[]) => only(all, 'NetworkPolicy').spec?.ingress;
      expect(policy(objects)).toEqual(policy(manifests.objects));
    });

    test('opens nothing to the outside and asks for nothing that a cluster may lack', () => {
      expect(objects.map(titleOf).sort()).toEqual([
        'Deployment svc-mqtt',
        'NetworkPolicy svc-mqtt',
        'PodDisruptionBudget svc-mqtt',
        'Service svc-mqtt',
      ]);
      expect(only(objects, 'Service').spec?.type).toBeUndefined();
    });
  });

  test('leads from outside to the routes to which the manifests lead', () => {
    const routes = (all: readonly KubernetesObject[]) =>
      (only(all, 'Ingress').spec?.rules ?? [])
        .flatMap((rule) => rule.http?.paths ?? [])
        .map(({ path, pathType }) => `${pathType} ${path}`)
        .sort();
    expect(routes(render({ ingress: { enabled: true, host: 'mqtt.example.com' } }))).toEqual(
      routes(manifests.objects),
    );
  });

  describe('with everything turned on', () => {
    const objects = missing ? [] : render(fullValues);
    const known = objects.filter(({ kind }) => !['Certificate', 'ServiceMonitor'].includes(kind));
    const other = (kind: string) => objects.find((object) => (object.kind as string) === kind);

    test('makes what Kubernetes knows, that leads to what is there', () => {
      expect(objects.flatMap(checkSchema)).toEqual([]);
      const workloads = listWorkloads(known);
      expect(workloads.flatMap(checkPodSecurity)).toEqual([]);
      // The Secret of the certificate is cert-manager's, or the user's.
      expect(checkNetwork(known, workloads)).toEqual([
        'Ingress svc-mqtt: TLS secret svc-mqtt-tls does not exist',
      ]);
    });

    test('has settings that the program accepts, files that are mounted, and time to drain', () => {
      const own = findWorkload(listWorkloads(known), 'Deployment svc-mqtt');
      const [container] = own.containers;
      const resolved = resolveEnvironment(container?.env ?? [], []);
      const env = {
        ...imageEnvironment(readStages(readText('Dockerfile'))),
        ...resolved,
        DATABASE_URL: 'postgres://u:p@db/x',
        NATS_URL: 'nats://nats',
        API_TOKEN: 'a-token-of-enough-characters',
      };
      expect(checkEnvironment(env)).toEqual([]);
      expect(env).toMatchObject({
        MAX_CONNECTIONS: '5000000',
        DEVICE_EVENTS: 'true',
        MQTT_TCP: 'false',
        PROXY_PROTOCOL_FROM: '10.0.0.0/8,fd00::/8',
      });
      const files = Object.values(resolved).filter((value) => value.startsWith('/run/'));
      expect(files).toHaveLength(5);
      for (const file of files) {
        expect(
          container?.volumeMounts?.some(({ mountPath }) => file.startsWith(`${mountPath}/`)),
          file,
        ).toBe(true);
      }
      expect(checkGracePeriod(own, drainSecOf(env))).toEqual([]);
      expect(own.pod.terminationGracePeriodSeconds).toBe(90);
    });

    test('shows MQTT over TLS and nothing else to devices', () => {
      const service = only(known, 'Service', 'svc-mqtt-devices').spec;
      expect(service).toMatchObject({
        type: 'LoadBalancer',
        loadBalancerSourceRanges: ['203.0.113.0/24'],
        externalTrafficPolicy: 'Local',
        ports: [{ name: 'mqtts', port: 8883, targetPort: 'mqtts' }],
      });
      const open = (only(known, 'NetworkPolicy').spec?.ingress ?? []).filter(
        (rule) => rule.from === undefined,
      );
      expect(open).toEqual([{ ports: [{ protocol: 'TCP', port: 'mqtts' }] }]);
    });

    test('is scaled by the connections of a pod, which the program counts', () => {
      expect(only(known, 'Deployment').spec?.replicas).toBeUndefined();
      expect(other('HorizontalPodAutoscaler')).toMatchObject({
        spec: {
          scaleTargetRef: { kind: 'Deployment', name: 'svc-mqtt' },
          metrics: [
            {
              type: 'Pods',
              pods: { metric: { name: 'svc_mqtt_connections' }, target: { averageValue: '20000' } },
            },
          ],
        },
      });
      expect(readText('docs/monitoring.md')).toContain('| `svc_mqtt_connections` |');
    });

    test('is watched as the job that the alerts name, with a key of its own', () => {
      expect(other('ServiceMonitor')).toMatchObject({
        apiVersion: 'monitoring.coreos.com/v1',
        metadata: { labels: { release: 'prometheus' } },
        spec: {
          jobLabel: 'app.kubernetes.io/name',
          selector: { matchLabels: only(known, 'Service').spec?.selector },
          endpoints: [
            {
              port: 'http',
              path: '/metrics',
              authorization: { type: 'Bearer', credentials: { name: 'prometheus-key', key: 'token' } },
            },
          ],
        },
      });
      expect(only(known, 'Service').metadata?.labels?.['app.kubernetes.io/name']).toBe('svc-mqtt');
      expect(readText('deploy/prometheus/alerts.yaml')).toContain('up{job="svc-mqtt"}');
    });

    test.each(['Certificate', 'ServiceMonitor'])(
      'a %s with a field that its operator does not know is refused',
      (kind) => {
        const wrong = structuredClone(other(kind)) as unknown as { spec: Record<string, unknown> };
        wrong.spec.unknownField = 'x';
        expect(checkSchema(wrong)).toEqual([`${kind}: /spec/unknownField is not a field that ${kind} knows`]);
      },
    );

    test('has its certificate made into the Secret that the pods mount', () => {
      const { pod } = findWorkload(listWorkloads(known), 'Deployment svc-mqtt');
      const secretName = pod.volumes?.find(({ name }) => name === 'mqtt-tls')?.secret?.secretName;
      expect(other('Certificate')).toMatchObject({
        apiVersion: 'cert-manager.io/v1',
        spec: {
          secretName,
          dnsNames: ['mqtt.example.com'],
          issuerRef: { kind: 'ClusterIssuer', name: 'letsencrypt' },
        },
      });
    });
  });

  test('holds nothing secret', () => {
    expect(listKind(render(fullValues), 'Secret')).toEqual([]);
    expect(readText(`${chart}/values.yaml`)).not.toMatch(/:\/\/[^\s/:]+:(?!password)[^\s/@]+@/);
  });

  test('takes the values that the README shows', () => {
    const [, shown = ''] = /```yaml\n(# my-values\.yaml\n[^`]*)```/.exec(readText('deploy/README.md')) ?? [];
    const [given] = parseYaml(shown) as [object];
    expect(Object.keys(given)).toContain('loadBalancer');
    expect(renderText(given)).toMatchObject({ status: 0, stderr: '' });
  });

  // Helm 3 and 4 say it in other words, and both name the value.
  const mistakes: [string, object, RegExp][] = [
    ['a wrong type', { replicas: 'two' }, /replicas\b.*integer/],
    ['an unknown value', { replica: 2 }, /\breplica'?( is)? not allowed/],
    ['an unknown value further in', { tls: { enable: true } }, /\benable'?( is)? not allowed/],
    ['no replica', { replicas: 0 }, /replicas\b.*(minimum|greater than or equal)/],
    ['a name of no Secret', { database: { secret: 'My Secret' } }, /database[./]secret\b.*does not match/i],
    [
      'a password in a URL',
      { nats: { monitorUrl: 'http://u:p@nats:8222' } },
      /nats[./]monitorUrl\b.*does not match/i,
    ],
    ['a user without its key', { nats: { userKey: '' } }, /nats\.userKey is empty: set both/],
    ['a range without its length', { loadBalancer: { sourceRanges: ['1.2.3.4'] } }, /sourceRanges[./]0/],
    ['a host for an address', { proxyProtocolFrom: ['balancer'] }, /proxyProtocolFrom[./]0/],
    ['an unknown policy', { loadBalancer: { externalTrafficPolicy: 'local' } }, /externalTrafficPolicy/],
    ['an Ingress without a host', { ingress: { enabled: true } }, /ingress\.host is empty: set the host/],
    ['an issuer for no host', { tls: { enabled: true, clusterIssuer: 'x' } }, /tls\.hosts is empty/],
    ['an issuer without TLS', { tls: { clusterIssuer: 'x', hosts: ['x.io'] } }, /set tls\.enabled=true/],
    ['certificates without TLS', { tls: { clientCaSecret: 'x' } }, /over TLS only/],
    ['a monitor without a key', { serviceMonitor: { enabled: true } }, /serviceMonitor\.secret is empty/],
    ['limits in the wrong order', { autoscaling: { minReplicas: 20 } }, /minReplicas is over/],
    ['a setting in small letters', { env: { max_connections: 5 } }, /max_connections/],
    ['a setting with a fraction', { env: { MAX_CONNECTIONS: 1.5 } }, /env[./]MAX_CONNECTIONS\b.*integer/],
    ['a setting that a value has', { env: { TLS_CERT: 'x' } }, /env\.TLS_CERT: set tls\.secret instead/],
    ['a secret setting', { env: { NATS_TOKEN: 'x' } }, /env\.NATS_TOKEN: values are no place for a secret/],
    ['a port', { env: { MQTT_PORT: 1884 } }, /env\.MQTT_PORT: the chart has fixed ports/],
  ];

  test.each(mistakes)('refuses %s, and says where', (_, given, expected) => {
    const { status, stderr } = renderText(given);
    expect(stderr).toMatch(expected);
    expect(status).not.toBe(0);
  });
});
