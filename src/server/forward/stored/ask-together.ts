/**
 * Asks one question at a time. Who comes while one is under way, which may have been answered before, is answered by the next
 * one, with all who come meanwhile.
 */
export function askTogether<T>(ask: () => Promise<T>): () => Promise<T> {
  let asking: Promise<T> | undefined;
  let next: Promise<T> | undefined;

  function begin(): Promise<T> {
    const asked = ask().finally(() => {
      asking = undefined;
    });
    asking = asked;
    return asked;
  }

  return () => {
    if (asking === undefined) return begin();
    next ??= asking
      .catch(() => {})
      .then(() => {
        next = undefined;
        return begin();
      });
    return next;
  };
}
