import Type, { type Static, type TSchema } from 'typebox';

/**
 * One setting. `env` lists the variables that set it, the first being the documented one; `flag` is the long
 * option. What is counted as a limit says in `help` what happens at it.
 */
export interface Setting<S extends TSchema = TSchema, D = unknown> {
  readonly env: readonly [string, ...string[]];
  readonly flag: string;
  readonly schema: S;
  readonly default: D;
  /** Never shown, and never an argument, which every user of a machine can read: see `flagForms`. */
  readonly secret?: true;
  /** A secret setting that is harmless without a password: its flag takes a value that carries none. */
  readonly url?: true;
  readonly help: string;
  /** Of one that is on by default: what its option, which turns it off, does. */
  readonly offHelp?: string;
}

export function setting<S extends TSchema, const D extends Static<S> | undefined>(
  value: Setting<S, D>,
): Setting<S, D> {
  return value;
}

/** Schemas of many settings. */
export const port = Type.Integer({ minimum: 0, maximum: 65_535 });
export const text = Type.String({ minLength: 1 });
export const count = (minimum: number, maximum: number) => Type.Integer({ minimum, maximum });
