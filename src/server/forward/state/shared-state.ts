import type { ForwarderLimits } from '../forwarding.js';
import { openRetainedStore, type RetainedStore, retainedStream } from './retained-store.js';
import type { StateContext } from './state-stream.js';
import { startStateWriter } from './state-writer.js';

/** What replicas share beside the messages of the uplink, in streams that svc-mqtt makes for itself. */
export interface SharedState {
  readonly retained: RetainedStore;
  /** The streams that are in use. */
  streams(): readonly { readonly name: string; readonly usable: boolean }[];
  /** Resolves when everything has been read that there was, or cannot be, at the latest after `timeoutMs`. */
  ready(timeoutMs: number): Promise<void>;
  /** Waits until everything given is stored, at most until `timeoutMs`; answers how many messages are not. */
  drain(timeoutMs: number): Promise<number>;
  close(): Promise<void>;
}

export function openSharedState(context: StateContext, limits: ForwarderLimits): SharedState {
  const writer = startStateWriter({ ...context, limits });
  const retained = openRetainedStore(context, writer);
  return {
    retained,
    streams: () =>
      retained.started ? [{ name: retainedStream, usable: retained.problem === undefined }] : [],
    ready: (timeoutMs) => retained.ready(timeoutMs),
    drain: (timeoutMs) => writer.drain(timeoutMs),
    close() {
      retained.close();
      return writer.close();
    },
  };
}
