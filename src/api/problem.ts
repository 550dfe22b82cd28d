import type { Static } from 'typebox';
import type * as schema from './problem-schema.js';

export type Problem = Static<typeof schema.Problem>;
export type FieldProblem = Static<typeof schema.FieldProblem>;
