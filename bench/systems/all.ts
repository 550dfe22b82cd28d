import { aedes, aedesNats } from './aedes.js';
import { atomic, atomicReplicated } from './atomic.js';
import { direct, directEach } from './direct.js';
import {
  gateway,
  gatewayCore,
  gatewayEvents,
  gatewayFleet,
  gatewayLedger,
  gatewayMqtt5,
  gatewayMqtt5Properties,
  gatewayMqtt5Receipts,
  gatewaySessions,
  gatewaySynced,
  gatewaySyncedPlain,
  gatewaySyncedReplicated,
  gatewaySyncedReplicatedPlain,
  gatewayWorkers,
} from './gateway.js';
import { mosquitto } from './mosquitto.js';
import { natsMqtt } from './nats-mqtt.js';
import { relay, relayStored } from './relay.js';
import type { System, SystemName } from './system.js';

export const systems: Record<SystemName, System> = {
  gateway,
  'gateway-mqtt5': gatewayMqtt5,
  'gateway-mqtt5-properties': gatewayMqtt5Properties,
  'gateway-mqtt5-receipts': gatewayMqtt5Receipts,
  'gateway-synced': gatewaySynced,
  'gateway-synced-plain': gatewaySyncedPlain,
  'gateway-workers': gatewayWorkers,
  'gateway-synced-r3': gatewaySyncedReplicated,
  'gateway-synced-r3-plain': gatewaySyncedReplicatedPlain,
  'gateway-sessions': gatewaySessions,
  'gateway-core': gatewayCore,
  'gateway-fleet': gatewayFleet,
  'gateway-events': gatewayEvents,
  'gateway-ledger': gatewayLedger,
  'nats-mqtt': natsMqtt,
  mosquitto,
  aedes,
  'aedes-nats': aedesNats,
  relay,
  'relay-stored': relayStored,
  direct,
  'direct-each': directEach,
  atomic,
  'atomic-r3': atomicReplicated,
};
