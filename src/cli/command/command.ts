import type { Command } from 'commander';
import type { Config } from '../../config.js';
import type { CommandIo } from '../terminal/io.js';

/** One call of a command. */
// biome-ignore lint/suspicious/noExplicitAny: commander parses into what each command declares.
export interface Call<Options = any> {
  /** Read when it is asked for. @throws SvcMqttError CONFIG_INVALID. */
  readonly config: Config;
  readonly options: Options & CommonOptions;
  readonly args: readonly string[];
  readonly io: CommandIo;
}

/** Options that mean the same in every command that has them. */
export interface CommonOptions {
  readonly json?: boolean;
  /** The answer to every question is yes. */
  readonly yes?: boolean;
  /** Most rows shown. */
  readonly limit?: number;
}

/** What a command does: answers its exit status, or nothing for 0. */
export type Run = (call: Call) => Promise<number | undefined> | Promise<void>;
/** Whose settings a command takes. */
export type Uses = 'all' | 'database' | 'store' | 'nats' | 'setup' | 'api' | 'none';

/** Adds a command: its usage, its description, whose settings it takes, and what it does. */
export type Add = (parent: Command, usage: string, description: string, settings: Uses, run: Run) => Command;
