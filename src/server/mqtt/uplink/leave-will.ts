import type { Will } from '../protocol/codec.js';
import type { Client } from '../sessions/client.js';
import type { Uplink } from './uplink.js';

/** Publishes the will of a connection that ends, or leaves it to the client's session until its delay is over (MQTT 5.0 §3.1.3.2.2). */
export function leaveWill(will: Will, uplink: Uplink, client: Client): void {
  const delaySec = Math.min(will.delaySec, client.sessionExpirySec);
  if (delaySec === 0) {
    uplink.publishWill(will);
    return;
  }
  client.delayedWill = {
    dueAtMs: performance.now() + delaySec * 1_000,
    publish() {
      const { rules } = client.device;
      if (rules !== undefined) uplink.routing.change(rules);
      uplink.publishWill(will);
    },
  };
}
