import { createContext } from 'preact';
import { useContext } from 'preact/hooks';
import type { MeJson } from '../../api/me.js';
import type { ApiError } from './api-error.js';
import type { Source } from './source.js';

/** Something that is shown once. */
export interface Secret {
  /** What was made, as a heading. */
  readonly title: string;
  /** What it is for, or what to do with it. */
  readonly text: string;
  readonly fields: readonly (readonly [name: string, value: string])[];
  /** What a camera is to read. */
  readonly code?: string;
}

/** What every page can use. */
export interface Session {
  readonly source: Source;
  readonly me: MeJson;
  may(role: MeJson['role']): boolean;
  /** Shows a secret until it is put away, whatever becomes of the page meanwhile. */
  reveal(secret: Secret): void;
  /** Tells of a failure until it is put away: for those whose page was left meanwhile. */
  tell(error: ApiError): void;
  /** Goes on with another key. */
  logIn(key: string): void;
}

export const SessionContext = createContext<Session | undefined>(undefined);

export function useSession(): Session {
  const session = useContext(SessionContext);
  if (session === undefined) throw new Error('There is no session here');
  return session;
}
