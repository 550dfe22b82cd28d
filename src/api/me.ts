import type { Static } from 'typebox';
import { includesRole, type Role, roles } from '../db/api-keys.js';
import type { Actor } from '../db/audit.js';
import type * as schema from './me-schema.js';

/** Who calls the API, and what they may do. */
export type MeJson = Static<typeof schema.MeResponse>;

export function toMeJson({ kind, name }: Pick<Actor, 'kind' | 'name'>, role: Role): MeJson {
  return { kind, name, role, may: roles.filter((each) => includesRole(role, each)) };
}
