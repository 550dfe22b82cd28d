import type { Static } from 'typebox';
import type * as schema from './command-schema.js';

export type CommandRequestJson = Static<typeof schema.CommandRequest>;
export type CommandJson = Static<typeof schema.CommandResponse>;
export type CommandProgressJson = Static<typeof schema.CommandProgressResponse>;
