import { type SettingName, settingEntries } from '../../../src/config.js';
import { messageOf } from '../../../src/errors.js';
import { readConfig } from '../../../src/read-config.js';

/** Variables of Node.js itself, which are no setting of svc-mqtt. */
const runtimeVariables = new Set(['NODE_ENV']);

/**
 * Checks the environment of a svc-mqtt container: every variable belongs to a setting, and the values are accepted. A
 * `_FILE` variable is checked by its name; its file exists in the container only.
 */
export function checkEnvironment(env: Readonly<Record<string, string>>): string[] {
  const problems = Object.keys(env)
    .filter((name) => !runtimeVariables.has(name) && findSetting(name) === undefined)
    .map((name) => `${name} is not a variable of svc-mqtt`);
  const values = Object.entries(env).filter(([name]) => findSetting(name)?.file === false);
  try {
    readConfig({ env: Object.fromEntries(values) });
  } catch (error) {
    problems.push(messageOf(error));
  }
  return problems;
}

function findSetting(variable: string): { name: SettingName; file: boolean } | undefined {
  for (const [name, entry] of settingEntries) {
    if (entry.env.some((each) => each === variable)) return { name, file: false };
    if (entry.secret === true && entry.env.some((each) => `${each}_FILE` === variable)) {
      return { name, file: true };
    }
  }
  return undefined;
}

/** A host and port named in a URL, with the variable or key that holds it. */
export interface NamedHost {
  readonly where: string;
  readonly host: string;
  readonly port: number;
  readonly hasPassword: boolean;
}

const defaultPorts: Record<string, number> = {
  'postgres:': 5432,
  'postgresql:': 5432,
  'nats:': 4222,
  'tls:': 4222,
};

/** The hosts of every database and NATS URL among some values. */
export function listHosts(values: Readonly<Record<string, string>>): NamedHost[] {
  return Object.entries(values).flatMap(([where, value]) =>
    value
      .split(',')
      .filter((part) => URL.canParse(part.trim()))
      .map((part) => new URL(part.trim()))
      .filter((url) => url.protocol in defaultPorts)
      .map((url) => ({
        where,
        host: url.hostname,
        port: url.port === '' ? (defaultPorts[url.protocol] ?? 0) : Number(url.port),
        hasPassword: url.password !== '',
      })),
  );
}
