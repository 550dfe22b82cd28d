import Type, { type Static, type TSchema, type TUnsafe } from 'typebox';
import { fieldPatterns, maxMetadataKeyLength, maxMetadataValueLength } from '../db/devices/device-fields.js';
import { timePattern } from './constants.js';

/** The API takes no field that it does not know. */
export const closed = { additionalProperties: false };

/** What a request may have: each field can be left out. */
export const optional = <Fields extends Type.TProperties>(
  fields: Fields,
  options: Type.TObjectOptions = closed,
) => Type.Partial(Type.Object(fields), options);

/** Refers to a schema that the app knows by its `$id`, so that the specification has it once, by name. */
export function refer<S extends TSchema>(schema: S, options: object = {}): TUnsafe<Static<S>> {
  return Type.Unsafe<Static<S>>({ ...options, $ref: `${(schema as { $id?: string }).$id}#` });
}

export const orNull = <S extends TSchema>(schema: S, options: Type.TSchemaOptions = {}) =>
  Type.Union([schema, Type.Null()], options);

/** A time in an answer. */
export const time = (description: string) =>
  Type.String({ format: 'date-time', description, examples: ['2026-01-31T12:00:00.000Z'] });
export const timeOrNull = (description: string) => orNull(time(description));

/** A number in an answer that is never below zero. */
export const count = (description: string) => Type.Number({ minimum: 0, description });

/** A time in a request. */
export const timeField = (description: string) =>
  Type.String({
    format: 'date-time',
    pattern: timePattern,
    description,
    examples: ['2027-01-31T12:00:00Z'],
  });

/** Metadata in a request: `value` is the schema of an entry's value. */
export const metadataField = <V extends TSchema>(value: V, options: Type.TObjectOptions) =>
  Type.Unsafe<Record<string, Static<V>>>({
    type: 'object',
    propertyNames: { minLength: 1, maxLength: maxMetadataKeyLength, pattern: fieldPatterns.metadataKey },
    additionalProperties: value,
    ...options,
  });

/** The value of an entry of it. */
export const metadataValue = Type.String({
  maxLength: maxMetadataValueLength,
  pattern: fieldPatterns.metadataValue,
});

const maxPageLimit = 1_000;
export const defaultPageLimit = 100;

/** The parameters that say which page of a list is asked for: how many rows it has, and where it begins. */
export const pageQuery = (rows: string) => ({
  limit: Type.Integer({
    minimum: 1,
    maximum: maxPageLimit,
    default: defaultPageLimit,
    description: `Most ${rows} on the page`,
  }),
  cursor: Type.String({
    minLength: 1,
    description: '`next_cursor` of the page before; it belongs to the same filters',
  }),
});

/** A page of a list: its rows, and where the next one begins. */
export const page = <Rows extends Type.TProperties>($id: string, rows: Rows) =>
  Type.Object(
    {
      ...rows,
      next_cursor: orNull(Type.String(), {
        description: 'What `cursor` takes for the next page; null: this is the last one',
      }),
    },
    { $id, ...closed },
  );
