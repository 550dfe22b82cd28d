import type { Socket } from 'node:net';
import type { Config } from '../../../config.js';
import { SvcMqttError } from '../../../errors.js';
import type { LimitedLog } from '../../../log.js';
import type { CertificateStore } from '../../tls/certificate-store.js';
import { type AddressRanges, readAddressRanges } from '../admission/address-ranges.js';
import type { Transport } from './accepted-socket.js';
import { type EntranceKeeper, openEntrance } from './handshakes.js';
import { type Listener, startListener } from './tcp-listener.js';
import { openTlsDoor } from './tls-upgrade.js';
import { openWebSocketDoor } from './websocket-upgrade.js';

export type ListenersConfig = Pick<
  Config,
  | 'mqttHost'
  | 'mqttTcp'
  | 'mqttPort'
  | 'mqttsPort'
  | 'wsPort'
  | 'wssPort'
  | 'mqttClientCertUri'
  | 'proxyProtocolFrom'
  | 'connectTimeoutSec'
  | 'maxPacketBytes'
  | 'maxConnectPacketBytes'
> & {
  /** Most connections that each port accepts in one turn of the event loop. */
  readonly acceptsPerTurn: number;
};

interface Planned {
  readonly transport: Transport;
  readonly port: number;
  readonly setting: string;
}

/**
 * Listens on every port that the settings name. A failed start undoes what it began.
 *
 * @param options.certificates of the broker; undefined: there is no TLS.
 * @throws SvcMqttError LISTEN_FAILED, or CONFIG_INVALID when no port or no proxy is named as it has to be.
 */
export async function startListeners(options: {
  config: ListenersConfig;
  certificates: CertificateStore | undefined;
  keeper: EntranceKeeper;
  log: LimitedLog;
}) {
  const { config, certificates, keeper, log } = options;
  const { planned, proxies } = planListeners(config, certificates !== undefined);
  const entrance = openEntrance({
    keeper,
    timeoutMs: config.connectTimeoutSec * 1_000,
    proxies,
    tls: certificates && openTlsDoor({ certificates, uriForm: config.mqttClientCertUri }),
    webSocket: openWebSocketDoor(config),
  });
  const started: Listener[] = [];
  /** Accepts no further connections and ends the handshakes under way; those that are done go on. Idempotent. */
  const close = async () => {
    await Promise.all(started.map((listener) => listener.close()));
    entrance.close();
  };
  /** The ports that are listened on. */
  const ports: Partial<Record<Transport, number>> = {};
  try {
    for (const { transport, port, setting } of planned) {
      const onSocket = (socket: Parameters<typeof entrance.enter>[0]) => entrance.enter(socket, transport);
      const { mqttHost: host, acceptsPerTurn } = config;
      const listener = await startListener({ host, port, setting, onSocket, acceptsPerTurn, log });
      started.push(listener);
      ports[transport] = listener.port;
    }
  } catch (error) {
    await close();
    throw error;
  }
  return { ports, close };
}

/**
 * Takes every port that is planned, for the moment until it is let go: one that cannot be had is told before anything
 * else is begun.
 *
 * @throws SvcMqttError LISTEN_FAILED.
 */
export async function holdPorts(
  { mqttHost: host }: Pick<ListenersConfig, 'mqttHost'>,
  planned: readonly Planned[],
  log: LimitedLog,
): Promise<() => Promise<void>> {
  const held: Listener[] = [];
  const letGo = async () => {
    for (const listener of held) await listener.close();
  };
  try {
    for (const { port, setting } of planned) {
      const onSocket = (socket: Socket) => socket.destroy();
      held.push(await startListener({ host, port, setting, onSocket, acceptsPerTurn: 1, log }));
    }
  } catch (error) {
    await letGo();
    throw error;
  }
  return letGo;
}

/**
 * Checks the settings without listening, so that a start with wrong ones fails before it has begun anything.
 *
 * @throws SvcMqttError CONFIG_INVALID when no port or no proxy is named as it has to be.
 */
export function planListeners(
  config: Omit<ListenersConfig, 'acceptsPerTurn'>,
  withTls: boolean,
): { planned: Planned[]; proxies: AddressRanges | undefined } {
  const all: (Planned | { port: undefined })[] = [
    { transport: 'tcp', port: config.mqttTcp ? config.mqttPort : undefined, setting: 'MQTT_PORT' },
    { transport: 'tls', port: withTls ? config.mqttsPort : undefined, setting: 'MQTTS_PORT' },
    { transport: 'ws', port: config.wsPort, setting: 'WS_PORT' },
    { transport: 'wss', port: withTls ? config.wssPort : undefined, setting: 'WSS_PORT' },
  ];
  const planned = all.filter((each): each is Planned => each.port !== undefined);
  if (planned.length === 0) {
    throw new SvcMqttError('CONFIG_INVALID', 'MQTT_TCP is false and no other port for devices is set', {
      suggestion: 'Set TLS_CERT and TLS_KEY, or WS_PORT, or leave MQTT_TCP out',
    });
  }
  const { proxyProtocolFrom } = config;
  const proxies =
    proxyProtocolFrom === undefined ? undefined : readAddressRanges(proxyProtocolFrom, 'PROXY_PROTOCOL_FROM');
  return { planned, proxies };
}
