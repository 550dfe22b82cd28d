import type { Static } from 'typebox';
import type * as schema from './session-schema.js';

export type SessionJson = Static<typeof schema.SessionResponse>;
export type SessionPageJson = Static<typeof schema.SessionPageResponse>;
