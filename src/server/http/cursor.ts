import { createInputProblem, ProblemError } from './problem.js';

/** Makes the cursor of the page after a row. It says nothing to clients, which keeps paging free to change. */
export function encodeCursor(lastKey: string): string {
  return Buffer.from(lastKey).toString('base64url');
}

/** @throws ProblemError when it is not a cursor that `encodeCursor` made. */
export function decodeCursor(cursor: string): string {
  const key = Buffer.from(cursor, 'base64url').toString();
  if (key !== '' && !key.includes('\0') && encodeCursor(key) === cursor) return key;
  const problem = 'is not a next_cursor of this API; leave it out to start with the first page';
  throw new ProblemError(createInputProblem([{ field: 'cursor', problem }]));
}
