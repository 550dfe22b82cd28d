import type { FastifySchemaCompiler } from 'fastify';
import type { TSchema } from 'typebox';
import { Compile } from 'typebox/compile';
import type { FieldProblem } from '../../api/problem.js';
import { invalidField, shorten } from './problem.js';

/** Most faults one answer names. */
const maxFaults = 16;

/** One fault as TypeBox reports it. */
export interface SchemaFault {
  readonly keyword: string;
  readonly instancePath: string;
  readonly params: object;
}

/** Keywords of rules that the routes check themselves, with words that say more than the keyword could. */
const ruleKeywords = [
  'pattern',
  'format',
  'propertyNames',
  'maxProperties',
  'uniqueItems',
  'if',
  'then',
] as const;

/** A schema without the rules that the routes check: the shape of a value, and how long or large it may be. */
function shapeOf<T>(schema: T): T {
  if (Array.isArray(schema)) return schema.map(shapeOf) as T;
  if (typeof schema !== 'object' || schema === null) return schema;
  const kept = Object.entries(schema).filter(([key]) => !(ruleKeywords as readonly string[]).includes(key));
  return Object.fromEntries(
    kept.map(([key, value]) => [key, key === 'properties' ? shapesOf(value) : shapeOf(value)]),
  ) as T;
}

/** Of fields, which may have the name of a keyword. */
function shapesOf(fields: object): object {
  return Object.fromEntries(Object.entries(fields).map(([name, field]) => [name, shapeOf(field)]));
}

/**
 * Compiles the shape that a route's schema states to its check. Parameters arrive as text: those that are whole numbers
 * become so.
 */
export const compileValidator: FastifySchemaCompiler<TSchema> = ({ schema, httpPart }) => {
  const validator = Compile(shapeOf(schema));
  return (input: unknown) => {
    const value = httpPart === 'querystring' || httpPart === 'params' ? readIntegers(schema, input) : input;
    // Fastify takes a list of faults for its own kind of error; the error handler puts them into words.
    return validator.Check(value) ? { value } : { error: validator.Errors(value) as never };
  };
};

function readIntegers(schema: TSchema, input: unknown): unknown {
  const properties = (schema as { properties?: Record<string, { type?: string }> }).properties ?? {};
  return Object.fromEntries(
    Object.entries(input as Record<string, unknown>).map(([name, value]) =>
      properties[name]?.type === 'integer' && typeof value === 'string' && /^-?\d{1,15}$/.test(value)
        ? [name, Number(value)]
        : [name, value],
    ),
  );
}

/** Puts the faults of one part of a request into words, at most one for a field. */
export function describeFaults(faults: readonly SchemaFault[], part: string): FieldProblem[] {
  const problems = new Map<string, string>();
  for (const fault of faults) {
    const params = fault.params as Record<string, unknown>;
    // TypeBox reports a refused field once more by its schema, which is "false".
    if (fault.keyword === 'boolean') continue;
    if (fault.keyword === 'additionalProperties') {
      const kind = part === 'body' ? 'field' : 'parameter';
      for (const name of params.additionalProperties as string[]) {
        // Where any name may stand, what is wrong is reported of its value.
        const path = `${fault.instancePath}/${name}`;
        if (
          faults.some(({ keyword, instancePath }) => keyword !== 'boolean' && isAtOrBelow(instancePath, path))
        )
          continue;
        problems.set(shorten(name), `is not a known ${kind}`);
      }
    } else if (fault.keyword === 'required') {
      for (const name of params.requiredProperties as string[]) problems.set(name, 'is missing');
    } else {
      const field = fault.instancePath.slice(1).replaceAll('/', '.') || part;
      if (!problems.has(field)) problems.set(field, describeFault(fault.keyword, params));
    }
  }
  return [...problems].slice(0, maxFaults).map(([field, problem]) => ({ field, problem }));
}

function isAtOrBelow(path: string, other: string): boolean {
  return path === other || path.startsWith(`${other}/`);
}

const typeNames: Record<string, string> = {
  string: 'a string',
  integer: 'a whole number',
  object: 'a JSON object',
  array: 'a list',
};

function describeFault(keyword: string, params: Record<string, unknown>): string {
  const limit = params.limit;
  if (keyword === 'type') return `must be ${typeNames[String(params.type)] ?? String(params.type)}`;
  if (keyword === 'minLength') {
    return limit === 1 ? 'must not be empty' : `must have at least ${limit} characters`;
  }
  if (keyword === 'maxLength') return `must have at most ${limit} characters`;
  if (keyword === 'maxItems') return `must have at most ${limit} entries`;
  if (keyword === 'minimum') return `must be at least ${limit}`;
  if (keyword === 'maximum') return `must be at most ${limit}`;
  if (keyword === 'enum') return `must be one of ${(params.allowedValues as string[]).join(', ')}`;
  return 'is not allowed here';
}

/**
 * Reads a body as JSON. Its content type plays no part. No body at all is `undefined`, for the schema to refuse.
 *
 * @param schema the one of the route's body: who sends no JSON is shown its example.
 * @throws ProblemError when the bytes are not JSON in UTF-8 (RFC 8259).
 */
export function parseBody(bytes: Buffer, schema: unknown): unknown {
  if (bytes.length === 0) return undefined;
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    throw invalidField('body', 'is not valid UTF-8');
  }
  try {
    return JSON.parse(text);
  } catch {
    // The parser's message repeats the body and differs from release to release of Node.
    const [example] = (schema as { examples?: readonly unknown[] } | undefined)?.examples ?? [];
    const advice = example === undefined ? '' : `; send for example ${JSON.stringify(example)}`;
    throw invalidField('body', `is not valid JSON${advice}`);
  }
}
