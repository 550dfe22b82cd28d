import type { Problem } from '../../api/problem.js';

/** What a page shows of a failure. */
export type ShownProblem = Pick<Problem, 'detail'> & Partial<Pick<Problem, 'title' | 'suggestion' | 'code'>>;

/** Why the API did not do what it was asked; status 0: there is no answer that could be read. */
export class ApiError extends Error {
  readonly status: number;
  readonly problem: ShownProblem;

  constructor(status: number, problem: ShownProblem) {
    super(problem.detail);
    this.status = status;
    this.problem = problem;
  }

  /** Whether it did not come to a verdict: no answer, too many requests, a failure of the server or a proxy. */
  get passes(): boolean {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }

  /** The same failure, of what is named. */
  titled(title: string): ApiError {
    return new ApiError(this.status, { ...this.problem, title });
  }

  /** The same failure, with what to do about it where it does not say so itself. */
  suggesting(suggestion: string): ApiError {
    return new ApiError(this.status, { suggestion, ...this.problem });
  }
}

/** Whatever was thrown, as what a page can show. */
export function asApiError(failure: unknown): ApiError {
  return failure instanceof ApiError ? failure : new ApiError(0, { detail: String(failure) });
}
