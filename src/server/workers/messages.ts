import type { Config } from '../../config.js';
import type { ErrorCode } from '../../errors.js';
import type { StoreStandstill } from '../forward/embedded/store-space.js';
import type { ServerPorts } from '../start/server-ports.js';

/** What a worker is told when it begins. All that goes between processes is cloned: no functions, no classes. */
export interface WorkerBeginning {
  readonly type: 'begin';
  /** From 1 to `workers` of the configuration. */
  readonly number: number;
  readonly config: Config;
  /** The port of the NATS server that the primary runs or has found; undefined with NATS_URL. */
  readonly embeddedNatsPort: number | undefined;
  /** Of the log only what tells why one has to wait is shown, until `show`. */
  readonly quiet: boolean;
}

/** From the primary, the process that started the workers. */
export type ToWorker =
  | WorkerBeginning
  | { readonly type: 'show' }
  | { readonly type: 'stop'; readonly signal: string }
  | { readonly type: 'reload-certificates' }
  /** A worker that does not answer with the same hangs. */
  | { readonly type: 'pulse' }
  /** How many workers take devices now. */
  | { readonly type: 'ready-count'; readonly count: number }
  /** Another worker asks for the metrics. */
  | { readonly type: 'ask-metrics'; readonly id: number }
  /** The metrics of the others. */
  | { readonly type: 'all-metrics'; readonly id: number; readonly texts: readonly string[] };

/** What a worker says when it takes devices. */
export interface WorkerReady {
  readonly type: 'ready';
  readonly ports: ServerPorts;
  /** Where they are, as `/stats` says. */
  readonly nats: string;
  readonly database: string;
}

/** Why a worker could not start. */
export interface WorkerFailure {
  readonly type: 'failed';
  readonly code: ErrorCode;
  readonly detail: string;
  readonly suggestion: string | undefined;
  readonly mayPass: boolean;
}

export type FromWorker =
  /** It listens: what is sent before is lost, since the cluster module takes it. */
  | { readonly type: 'listening' }
  | WorkerReady
  | WorkerFailure
  | { readonly type: 'pulse' }
  | { readonly type: 'waiting'; readonly line: string }
  /** The embedded NATS server stores nothing. */
  | { readonly type: 'needs-room'; readonly standstill: StoreStandstill }
  /** It asks for the metrics of the others. */
  | { readonly type: 'ask-metrics'; readonly id: number }
  /** Its own, in the text format of Prometheus. */
  | { readonly type: 'metrics'; readonly id: number; readonly text: string };
