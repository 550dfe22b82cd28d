import type { Log } from '../../../log.js';
import type { Rules } from '../uplink/route.js';
import { changeRules } from './client.js';
import type { Registry } from './registry.js';

/** Devices of one turn of the event loop: everything else goes on between two. */
const devicesPerTurn = 1_000;

/**
 * Puts the devices of changed types under their new policies. MQTT 3.1.1 cannot tell a client that a subscription
 * has ended, so a client that has one which is not allowed any more is closed, and finds out when it subscribes again.
 *
 * @param options.rulesOf the rules of now; a device that connects meanwhile has it already.
 */
export function applyPolicies(options: {
  registry: Registry;
  rulesOf(device: { id: string; type: string }): Rules;
  isChanged(type: string): boolean;
  log: Log;
}): void {
  const { registry, rulesOf, isChanged, log } = options;
  const devices = [...registry.devices()].filter(({ type }) => isChanged(type));
  let dropped = 0;
  const applyFrom = (start: number) => {
    for (const device of devices.slice(start, start + devicesPerTurn)) {
      const rules = rulesOf(device);
      // The rules go first: the will of a client that is dropped is held against the new policy too.
      changeRules(device, rules);
      for (const client of [...device.clients]) {
        if (client.session === undefined || client.session.isAllowedBy(rules.policy)) continue;
        registry.drop(client, 'policy-changed');
        dropped += 1;
      }
    }
    if (start + devicesPerTurn < devices.length) {
      setImmediate(() => applyFrom(start + devicesPerTurn));
    } else if (devices.length > 0) {
      const fields = { event: 'policies_applied', devices: devices.length, clientsDropped: dropped };
      log.info(fields, 'Devices here are under new policies');
    }
  };
  applyFrom(0);
}
