import { openKvBucket } from '../forward/state/kv-bucket.js';
import type { StateContext } from '../forward/state/state-stream.js';
import { openJetStreamSessionStore } from '../mqtt/sessions/store/jetstream-session-store.js';
import { openMemorySessionStore } from '../mqtt/sessions/store/memory-session-store.js';
import { openProvisionalSessionStore } from '../mqtt/sessions/store/provisional-session-store.js';
import type { SessionStore } from '../mqtt/sessions/store/session-store.js';

/** The start waits so long until it knows which sessions there are. */
const readyWithinMs = 10_000;

/**
 * Opens the store of the sessions: a bucket of JetStream, or the memory of this replica where there is no JetStream, or for as
 * long as the bucket cannot be used.
 *
 * @param context undefined without JetStream.
 * @param replica a name that no other replica has.
 */
export async function openSessionStorage(
  context: StateContext | undefined,
  replica: string,
): Promise<SessionStore> {
  if (context === undefined) return openMemorySessionStore('ENABLE_JETSTREAM=false');
  const bucket = openKvBucket({
    ...context,
    name: 'svc-mqtt-sessions',
    description: 'MQTT sessions of the gateway svc-mqtt',
    without:
      'sessions are in the memory of this replica until it can, or where they were stored before, not written',
  });
  const store = openJetStreamSessionStore({ bucket, replica });
  await bucket.ready(readyWithinMs);
  const { problem } = bucket;
  if (problem === undefined) return store;
  return openProvisionalSessionStore(store, () => bucket.problem ?? problem);
}
