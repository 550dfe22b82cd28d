/** Whether all is tried as often and as long as in CI: there, and where `TEST_LONG=1` asks for it. */
export const isLong = process.env.CI !== undefined || process.env.TEST_LONG === '1';

/** How much of something is tried: all of it in CI, on a developer's machine enough to notice what is broken. */
export function inCi<T>(all: T, few: T): T {
  return isLong ? all : few;
}
