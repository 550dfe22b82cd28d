import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { Compile } from 'typebox/schema';
import { settings } from '../../../src/config.js';
import { checkCopies, checkModes, readStages } from './dockerfile.js';
import { listHosts } from './environment.js';
import { isInRepository } from './files.js';

/** What the checks look at, in the forms that docker-compose.yml uses; the schema allows more. */
export interface ComposeService {
  readonly image?: string;
  /** The directory of a Dockerfile, or one that stands here. */
  readonly build?: string | { readonly context: string; readonly dockerfile_inline: string };
  readonly user?: string;
  readonly restart?: string;
  readonly profiles?: readonly string[];
  readonly read_only?: boolean;
  readonly cap_drop?: readonly string[];
  readonly cap_add?: readonly string[];
  readonly privileged?: boolean;
  readonly security_opt?: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
  readonly entrypoint?: readonly string[];
  readonly command?: readonly string[];
  readonly ports?: readonly string[];
  readonly networks?: readonly string[];
  readonly network_mode?: string;
  readonly volumes?: readonly { type: string; source: string; target: string }[];
  readonly tmpfs?: readonly string[];
  readonly depends_on?: Readonly<Record<string, { condition: string }>>;
  readonly healthcheck?: { readonly test: readonly string[] };
  readonly stop_grace_period?: string;
  readonly deploy?: { readonly resources?: { readonly limits?: Readonly<Record<string, string | number>> } };
}

export interface ComposeFile {
  readonly services: Readonly<Record<string, ComposeService>>;
  readonly networks?: Readonly<Record<string, { readonly internal?: boolean } | null>>;
  readonly volumes?: Readonly<Record<string, unknown>>;
}

const dclint = dirname(createRequire(import.meta.url).resolve('dclint/package.json'));
const schema = Compile(
  JSON.parse(readFileSync(join(dclint, 'schemas', 'compose.schema.json'), 'utf8')) as object,
);

/** Checks a file against the schema of the Compose specification, as the package dclint carries it. */
export function checkComposeSchema(file: unknown): string[] {
  const [, errors] = schema.Errors(file);
  return errors.map((error) => `${error.instancePath} ${error.message}`);
}

/** Replaces `${NAME:-default}` by the default, as Compose does where nothing is set. */
export function interpolate(value: string): string {
  return value.replace(/\$\{\w+:-([^}]*)\}/g, '$1');
}

export function environmentOf(service: ComposeService): Record<string, string> {
  return Object.fromEntries(
    Object.entries(service.environment ?? {}).map(([name, value]) => [name, interpolate(String(value))]),
  );
}

/** The services that run the program of the Dockerfile, by name. */
export function listOwnServices(file: ComposeFile): [string, ComposeService][] {
  return Object.entries(file.services).filter(
    ([, { build, entrypoint }]) => typeof build === 'string' && entrypoint === undefined,
  );
}

/** A service and all that it waits for, as `docker compose up NAME` starts them. */
export function listStarted(file: ComposeFile, name: string): string[] {
  const waitedFor = Object.keys(file.services[name]?.depends_on ?? {});
  return [...new Set([name, ...waitedFor.flatMap((each) => listStarted(file, each))])];
}

/**
 * Checks that what starts together can: the services of no profile need none of one, a port is published once, and
 * nothing of a profile is left out where its last service is asked for.
 */
export function checkProfiles(
  file: ComposeFile,
  starts: Readonly<Record<string, string | undefined>>,
): string[] {
  return Object.entries(starts).flatMap(([name, profile]) => {
    const started = listStarted(file, name);
    const profilesOf = (each: string) => file.services[each]?.profiles ?? [];
    const ports = started.flatMap((each) => file.services[each]?.ports ?? []);
    const members = Object.keys(file.services).filter((each) =>
      profile === undefined ? profilesOf(each).length === 0 : profilesOf(each).includes(profile),
    );
    return [
      ...started
        .filter((each) => profilesOf(each).some((other) => other !== profile))
        .map((each) => `${name} waits for ${each}, which is of another profile`),
      ...ports
        .filter((port, index) => ports.indexOf(port) !== index)
        .map((port) => `port ${port} is published twice for ${name}`),
      ...members.filter((each) => !started.includes(each)).map((each) => `${name} does not start ${each}`),
    ];
  });
}

/** Checks that what the services name exists, and that nothing is declared for nobody. */
export function checkComposeReferences(file: ComposeFile): string[] {
  const services = Object.entries(file.services);
  const networks = Object.keys(file.networks ?? {});
  const volumes = Object.keys(file.volumes ?? {});
  const usedNetworks = new Set(services.flatMap(([, service]) => service.networks ?? []));
  const mounts = services.flatMap(([, service]) => service.volumes ?? []);
  const usedVolumes = new Set(mounts.filter(({ type }) => type === 'volume').map(({ source }) => source));
  const usedFiles = mounts.filter(({ type }) => type === 'bind').map(({ source }) => source);
  return [
    ...[...usedNetworks]
      .filter((name) => !networks.includes(name))
      .map((name) => `network ${name} is not declared`),
    ...networks.filter((name) => !usedNetworks.has(name)).map((name) => `network ${name} is not used`),
    ...[...usedVolumes]
      .filter((name) => !volumes.includes(name))
      .map((name) => `volume ${name} is not declared`),
    ...volumes.filter((name) => !usedVolumes.has(name)).map((name) => `volume ${name} is not used`),
    ...usedFiles.filter((path) => !isInRepository(path)).map((path) => `${path} does not exist`),
    ...services.flatMap(([name, service]) => [
      ...checkDependencies(name, service, file),
      ...checkHosts(name, service, file),
      ...checkSecretFiles(name, service),
    ]),
  ];
}

function checkDependencies(name: string, service: ComposeService, file: ComposeFile): string[] {
  return Object.entries(service.depends_on ?? {}).flatMap(([target, { condition }]) => {
    const found = file.services[target];
    if (found === undefined) return [`${name} depends on ${target}, which does not exist`];
    if (condition === 'service_healthy' && found.healthcheck === undefined) {
      return [`${name} waits for ${target} to be healthy, which has no health check`];
    }
    if (condition === 'service_completed_successfully' && found.restart !== 'no') {
      return [`${name} waits for ${target} to end, which is restarted`];
    }
    return condition === 'service_started' ? [`${name} does not wait until ${target} is ready`] : [];
  });
}

function checkHosts(name: string, service: ComposeService, file: ComposeFile): string[] {
  // The URL that database-secret writes stands in its script.
  const script = (service.command ?? []).join('\n').match(/postgres:\/\/\S+?(?=['"\s])/g) ?? [];
  const values = {
    ...environmentOf(service),
    ...Object.fromEntries(script.map((url) => ['its script', url.replace('%s', 'x')])),
  };
  return listHosts(values).flatMap(({ where, host }) => {
    const target = file.services[host];
    if (target === undefined) return [`${name}: ${where} names ${host}, which is no service`];
    const users = where === 'its script' ? listOwnServices(file).map(([, own]) => own) : [service];
    return users.flatMap((user) => {
      const shared = (user.networks ?? []).some((network) => (target.networks ?? []).includes(network));
      if (!shared) return [`${name}: ${where} names ${host}, which shares no network with its user`];
      return user.depends_on?.[host]?.condition === 'service_healthy'
        ? []
        : [`${name}: ${where} names ${host}, which its user does not wait for`];
    });
  });
}

function checkSecretFiles(name: string, service: ComposeService): string[] {
  return Object.entries(service.environment ?? {})
    .filter(([variable]) => variable.endsWith('_FILE'))
    .filter(
      ([, path]) => !(service.volumes ?? []).some(({ target }) => String(path).startsWith(`${target}/`)),
    )
    .map(([variable, path]) => `${name}: ${variable} names ${path}, which is in no volume`);
}

/** Checks that only MQTT is open to the network, and that no password stands in the file. */
export function checkExposure(file: ComposeFile): string[] {
  const openPort = String(settings.mqttPort.default);
  return Object.entries(file.services).flatMap(([name, service]) => [
    ...(service.ports ?? [])
      .filter((port) => !String(port).startsWith('127.0.0.1:') && port !== `${openPort}:${openPort}`)
      .map((port) => `${name}: port ${port} is open to the network`),
    ...Object.keys(service.environment ?? {})
      .filter((variable) => /(PASSWORD|TOKEN|SECRET)$/.test(variable))
      .filter((variable) => environmentOf(service)[variable] !== '')
      .map((variable) => `${name}: ${variable} has a value that everyone can read here`),
    ...listHosts(environmentOf(service))
      .filter(({ hasPassword }) => hasPassword)
      .map(({ where }) => `${name}: ${where} carries a password that everyone can read here`),
  ]);
}

/** The images of others that a service runs on; the Dockerfile's own are its own business. */
function baseImagesOf({ build, image = '' }: ComposeService): string[] {
  if (build === undefined) return [image];
  return typeof build === 'string' ? [] : readStages(build.dockerfile_inline).map((stage) => stage.image);
}

/**
 * Checks that nothing depends on the modes of the files of whoever builds. That of a mounted file is the host's, so what
 * a container gets from here is copied.
 */
export function checkFileModes(file: ComposeFile): string[] {
  return Object.entries(file.services).flatMap(([name, { build, volumes = [] }]) => [
    ...volumes
      .filter(({ type }) => type === 'bind')
      .map(({ source }) => `${name} reads ${source} with the mode that it has on the host`),
    ...(typeof build === 'object' ? checkInlineBuild(build) : []).map((problem) => `${name}: ${problem}`),
  ]);
}

function checkInlineBuild(build: { readonly context: string; readonly dockerfile_inline: string }): string[] {
  const stages = readStages(build.dockerfile_inline);
  return [...checkCopies(stages, '', build.context), ...checkModes(stages)];
}

/** Checks what this project asks of every container. */
export function checkHardening(file: ComposeFile): string[] {
  return Object.entries(file.services).flatMap(([name, service]) => {
    const limits = service.deploy?.resources?.limits ?? {};
    const isOnce = service.restart === 'no';
    const rules: [boolean, string][] = [
      [service.read_only === true, 'can write its root file system'],
      [(service.cap_drop ?? []).includes('ALL') && service.cap_add === undefined, 'keeps capabilities'],
      [service.privileged !== true, 'is privileged'],
      [(service.security_opt ?? []).includes('no-new-privileges:true'), 'can gain privileges'],
      [service.restart !== undefined, 'has no restart policy'],
      [
        limits.memory !== undefined && limits.cpus !== undefined && limits.pids !== undefined,
        'lacks a limit',
      ],
      [isOnce || service.healthcheck !== undefined, 'has no health check'],
      [isOnce || service.stop_grace_period !== undefined, 'has no time to stop'],
      [baseImagesOf(service).every((image) => /:\d/.test(image)), 'has an image without a version'],
    ];
    return rules.filter(([kept]) => !kept).map(([, problem]) => `${name} ${problem}`);
  });
}
