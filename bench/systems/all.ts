import { aedes, aedesNats } from './aedes.js';
import { direct, directEach } from './direct.js';
import { gateway, gatewayCore, gatewaySynced, gatewaySyncedPlain } from './gateway.js';
import { mosquitto } from './mosquitto.js';
import { natsMqtt } from './nats-mqtt.js';
import type { System, SystemName } from './system.js';

export const systems: Record<SystemName, System> = {
  gateway,
  'gateway-synced': gatewaySynced,
  'gateway-synced-plain': gatewaySyncedPlain,
  'gateway-core': gatewayCore,
  'nats-mqtt': natsMqtt,
  mosquitto,
  aedes,
  'aedes-nats': aedesNats,
  direct,
  'direct-each': directEach,
};
