/**
 * What a setting accepts. Every command reads its settings, so these are plain JSON Schema and not TypeBox, which takes
 * longer to load than most commands run.
 */
export type SettingSchema = BooleanSchema | IntegerSchema | TextSchema | WordSchema;

export interface BooleanSchema {
  readonly type: 'boolean';
}

export interface IntegerSchema {
  readonly type: 'integer';
  readonly minimum: number;
  readonly maximum: number;
}

export interface TextSchema {
  readonly type: 'string';
  /** Characters. */
  readonly minLength?: number;
  readonly maxLength?: number;
  readonly pattern?: string;
  /** In words, where the rest would be a regular expression. */
  readonly description?: string;
  readonly enum?: undefined;
}

export interface WordSchema<W extends string = string> {
  readonly type: 'string';
  readonly enum: readonly W[];
}

/** The type of the values of a schema. */
export type SettingValue<S extends SettingSchema> = S extends BooleanSchema
  ? boolean
  : S extends IntegerSchema
    ? number
    : S extends WordSchema<infer W>
      ? W
      : string;

/** One setting; its name gives the variable and the option (see `named`). What is counted as a limit says in `help` what happens at it. */
export interface Setting<S extends SettingSchema = SettingSchema, D = unknown> {
  /** A second variable that sets it. */
  readonly alsoEnv?: string;
  /** Its long option, where that is not the name. */
  readonly flag?: string;
  readonly schema: S;
  /** Undefined: it is unset. */
  readonly default: D;
  /** Never shown, and never an argument, which every user of a machine can read: see `flagForms`. */
  readonly secret?: true;
  /** A secret setting that is harmless without a password: its flag takes a value that carries none. */
  readonly url?: true;
  readonly help: string;
  /** Of one that is on by default: what its option, which turns it off, does. */
  readonly offHelp?: string;
}

/** What of a setting its name gives. */
export interface SettingNames {
  /** The variables that set it, the first being the documented one. */
  readonly env: readonly [string, ...string[]];
  /** The long option. */
  readonly flag: string;
}

export function setting<S extends SettingSchema, const D extends SettingValue<S> | undefined = undefined>(
  value: Omit<Setting<S, D>, 'default'> & { readonly default?: D },
): Setting<S, D> {
  return { ...value, default: value.default as D };
}

/** The settings with their variables and options: of `maxSessions` they are `MAX_SESSIONS` and `--max-sessions`. */
export function named<Settings extends Readonly<Record<string, Setting>>>(
  settings: Settings,
): { readonly [K in keyof Settings]: Settings[K] & SettingNames } {
  const entries = Object.entries(settings).map(([name, entry]) => {
    const words = name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
    const variable = words.replaceAll('-', '_').toUpperCase();
    const env = entry.alsoEnv === undefined ? [variable] : [variable, entry.alsoEnv];
    return [name, { ...entry, env, flag: entry.flag ?? words }];
  });
  return Object.fromEntries(entries);
}

/** Schemas of many settings. */
export const boolean: BooleanSchema = { type: 'boolean' };
export const text: TextSchema = { type: 'string', minLength: 1 };
export const count = (minimum: number, maximum: number): IntegerSchema => ({
  type: 'integer',
  minimum,
  maximum,
});
export const port = count(0, 65_535);
export const textOf = (rules: Omit<TextSchema, 'type' | 'enum'>): TextSchema => ({
  type: 'string',
  ...rules,
});
export const oneOf = <const W extends string>(...words: readonly W[]): WordSchema<W> => ({
  type: 'string',
  enum: words,
});

/**
 * Reads a value as it stands in an environment variable, an option or a file.
 *
 * @returns undefined when the schema does not accept it.
 */
export function readValue(
  schema: SettingSchema,
  raw: string | boolean,
): string | number | boolean | undefined {
  if (schema.type === 'boolean') return words.get(String(raw).toLowerCase());
  if (schema.type === 'integer') {
    const number = typeof raw === 'string' && /^\s*[+-]?\d/.test(raw) ? Number(raw) : Number.NaN;
    return Number.isInteger(number) && number >= schema.minimum && number <= schema.maximum
      ? number
      : undefined;
  }
  const given = String(raw);
  if (schema.enum !== undefined) return schema.enum.includes(given) ? given : undefined;
  const { minLength = 0, maxLength = Number.POSITIVE_INFINITY, pattern } = schema;
  const length = [...given].length;
  if (length < minLength || length > maxLength) return undefined;
  return pattern === undefined || new RegExp(pattern, 'u').test(given) ? given : undefined;
}

const words: ReadonlyMap<string, boolean> = new Map([
  ['true', true],
  ['1', true],
  ['false', false],
  ['0', false],
]);
