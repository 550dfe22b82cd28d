/**
 * Waits for `work`, but no longer than `timeoutMs`; the work itself goes on.
 *
 * @param toError what is thrown when it takes longer.
 * @throws what the work throws; an Error, "timeout exceeded", when it takes longer.
 */
export async function within<T>(
  timeoutMs: number,
  work: Promise<T>,
  toError = () => new Error(`timeout exceeded: no answer within ${timeoutMs} ms`),
): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(toError()), timeoutMs);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
