import { userInfo } from 'node:os';
import type { Actor } from '../../db/audit.js';

/** The user of this machine who runs the command, for the audit log. */
export function readCliActor(): Actor {
  return { kind: 'cli', name: readUserName() };
}

/** A container may run under a number that no user has. */
function readUserName(): string {
  try {
    return userInfo().username;
  } catch {
    return `uid ${process.getuid?.() ?? 'unknown'}`;
  }
}
