import { request as requestHttp } from 'node:http';
import { request as requestHttps } from 'node:https';
import { createServer } from 'node:net';
import { type Config, splitListenAddr } from '../../config.js';
import { messageOf } from '../../errors.js';
import { ownApiUrl } from '../store/own-server.js';
import type { Check } from './finding.js';

/** The replica that runs on this machine with these settings, if one does. */
export interface RunningReplica {
  /** Of its HTTP API. */
  readonly url: string;
  readonly version: string;
}

const requestTimeoutMs = 3_000;
const maxAnswerLength = 4_194_304;

/** Asks the address of the HTTP API whether svc-mqtt answers there. */
export async function findReplica(config: Config): Promise<RunningReplica | undefined> {
  const url = ownApiUrl(config);
  if (url === undefined) return undefined;
  try {
    const alive = await ask(`${url}/healthz`);
    if (alive.status !== 200) return undefined;
    const { info } = JSON.parse((await ask(`${url}/openapi.json`)).text) as {
      info?: { title?: string; version?: string };
    };
    return info?.title === 'svc-mqtt' ? { url, version: info.version ?? 'unknown' } : undefined;
  } catch {
    return undefined;
  }
}

/** What the replica says of itself. */
export async function checkReplica(
  { ok, skipped, warning, problem }: Check,
  replica: RunningReplica | undefined,
  ownVersion: string,
): Promise<void> {
  if (replica === undefined) return skipped('No svc-mqtt serve runs here with these settings');
  const { url, version } = replica;
  const readiness = await ask(`${url}/readyz`);
  const failed = describeFailed(JSON.parse(readiness.text) as Parts);
  const what = `svc-mqtt ${version} runs at ${url}`;
  if (failed !== undefined) {
    const state = readiness.status === 200 ? 'has a problem' : 'is not ready';
    problem(`${what} and ${state} (${failed})`, 'Mend what it names; it takes up its work by itself');
  } else if (version !== ownVersion)
    warning(
      `${what}, and this is ${ownVersion}`,
      'Run the doctor of the version that serves, or restart the server',
    );
  else ok(`${what} and is ready`);
}

/** What `GET /readyz` answers. */
type Parts = Readonly<Record<string, string | { readonly status: string; readonly detail: string }>>;

/** The parts of a replica that have failed, in words; undefined: none has. */
export function describeFailed(parts: Parts): string | undefined {
  const failed = Object.entries(parts).flatMap(([name, part]) =>
    typeof part === 'object' && part.status !== 'ok' ? `${name}: ${part.detail}` : [],
  );
  return failed.length > 0 ? failed.join('; ') : undefined;
}

/** A port that a replica listens on. */
interface Door {
  readonly setting: string;
  readonly host: string;
  readonly port: number;
}

/** Whether each port is free, or held by the replica that runs. */
export async function checkPorts(
  { ok, warning, problem }: Check,
  config: Config,
  replica: RunningReplica | undefined,
): Promise<void> {
  for (const { setting, host, port } of doorsOf(config)) {
    if (port === 0) {
      ok(`${setting}: any free port`);
      continue;
    }
    const failure = await tryListening(host, port);
    const code = failure === undefined ? undefined : (failure as NodeJS.ErrnoException).code;
    if (failure === undefined && replica !== undefined)
      warning(
        `${setting}: nothing listens on port ${port}, although svc-mqtt runs`,
        'Give the doctor the settings of the server, or restart the server with these',
      );
    else if (failure === undefined) ok(`${setting}: port ${port} is free`);
    else if (code === 'EADDRINUSE' && replica !== undefined)
      ok(`${setting}: port ${port} is in use, as it should be while svc-mqtt runs`);
    else if (code === 'EADDRINUSE')
      problem(
        `${setting}: port ${port} is taken by something that is not svc-mqtt with these settings`,
        `Stop it, or set ${setting} to another port`,
      );
    else if (code === 'EACCES')
      problem(
        `${setting}: this user may not listen on port ${port}`,
        'Choose a port from 1024 on, or grant CAP_NET_BIND_SERVICE',
      );
    else problem(`${setting}: cannot listen: ${messageOf(failure)}`, `Correct ${setting}`);
  }
}

/** The ports that `startListeners` and `startHttp` take with these settings. */
function doorsOf(config: Config): Door[] {
  const host = config.mqttHost;
  const withTls = config.tlsCert !== undefined;
  const doors: (Door | { port: undefined })[] = [
    { setting: 'MQTT_PORT', host, port: config.mqttTcp ? config.mqttPort : undefined },
    { setting: 'MQTTS_PORT', host, port: withTls ? config.mqttsPort : undefined },
    { setting: 'WS_PORT', host, port: config.wsPort },
    { setting: 'WSS_PORT', host, port: withTls ? config.wssPort : undefined },
    { setting: 'LISTEN_ADDR', ...splitListenAddr(config.listenAddr) },
  ];
  return doors.filter((door): door is Door => door.port !== undefined);
}

/** Listens for a moment; answers why that is not possible. */
async function tryListening(host: string, port: number): Promise<Error | undefined> {
  const failure = await new Promise<Error | undefined>((resolve) => {
    const server = createServer();
    server.once('error', resolve);
    server.listen({ host, port, exclusive: true }, () => server.close(() => resolve(undefined)));
  });
  const code = (failure as NodeJS.ErrnoException | undefined)?.code;
  const noIpv6 = host === '::' && (code === 'EAFNOSUPPORT' || code === 'EADDRNOTAVAIL');
  return noIpv6 ? tryListening('0.0.0.0', port) : failure;
}

/**
 * Reads a value of the replica's metrics; undefined when they are not answered. No token is sent: what listens there was
 * not asked for a proof of being the server.
 */
export async function readReplicaMetric(replica: RunningReplica, name: string): Promise<number | undefined> {
  try {
    const { status, text } = await ask(`${replica.url}/metrics`);
    const value = status === 200 ? new RegExp(`^${name} (\\S+)$`, 'm').exec(text)?.[1] : undefined;
    return value === undefined ? undefined : Number(value);
  } catch {
    return undefined;
  }
}

/** The certificate is not looked at: it names the server as others reach it, and nothing secret is asked or sent. */
function ask(url: string): Promise<{ status: number; text: string }> {
  const options = {
    agent: false,
    rejectUnauthorized: false,
    signal: AbortSignal.timeout(requestTimeoutMs),
  };
  return new Promise((resolve, reject) => {
    const request = (url.startsWith('https:') ? requestHttps : requestHttp)(url, options, (answer) => {
      let text = '';
      answer.setEncoding('utf8').on('data', (chunk: string) => {
        text += chunk;
        if (text.length > maxAnswerLength) request.destroy(new Error('the answer is too long'));
      });
      answer.on('error', reject);
      answer.on('end', () => resolve({ status: answer.statusCode ?? 0, text }));
    });
    request.on('error', reject);
    request.end();
  });
}
