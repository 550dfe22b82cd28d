import { type Config, type SettingName, settings } from '../../config.js';

/** By what a device or its messages would be treated otherwise on one replica than on the next. */
const shared = [
  'acl',
  'onDeniedPublish',
  'mqttClientCert',
  'mqttClientCertUri',
  'maxPacketBytes',
  'maxPublishRatePerDevice',
  'maxSessionExpiry',
  'enableJetstream',
  'natsJetstreamDomain',
  'natsStream',
  'natsSubject',
  'natsIngest',
  'ackLevel',
  'ackLevelOnBreach',
  'deviceEvents',
  'deadLetterSubject',
  'traceContext',
  'auditRetentionDays',
] as const satisfies readonly SettingName[];

/** The settings that all replicas should have alike, by their variables. None of them is secret. */
export function readSharedSettings(config: Config): Record<string, string> {
  return Object.fromEntries(shared.map((name) => [settings[name].env[0], String(config[name] ?? 'unset')]));
}
