import { totalmem } from 'node:os';

const mebibyte = 1_048_576;
/** Of what a machine has that has more than enough. */
const mostByDefault = 1_024 * mebibyte;
/** What a QoS 2 exchange takes, about. */
const exchangeBytes = 64;

/** What all clients together may take, by MEMORY_BUDGET_MIB. */
export type MemoryBounds = Readonly<ReturnType<typeof memoryBoundsOf>>;

/**
 * Divides the budget: a half for subscriptions, a quarter for messages, a quarter for exchanges.
 *
 * @param budgetMib undefined: half of the memory of the machine or container, at most 1,024 MiB for each worker.
 * @param workers how many processes share it.
 */
export function memoryBoundsOf(budgetMib: number | undefined, workers = 1) {
  const budget =
    budgetMib === undefined
      ? Math.min(mostByDefault, availableBytes() / 2 / workers)
      : (budgetMib * mebibyte) / workers;
  return {
    /** Messages on their way to clients, bytes. */
    maxOutgoingBytesInAll: Math.floor(budget / 4),
    /** Subscriptions, bytes. */
    maxSubscriptionBytesInAll: Math.floor(budget / 2),
    /** QoS 2 exchanges that clients have begun and not ended. */
    maxExchangesInAll: Math.floor(budget / 4 / exchangeBytes),
  };
}

/** Of the container, where it has a limit, or of the machine. */
function availableBytes(): number {
  const limit = process.constrainedMemory();
  return limit > 0 ? Math.min(limit, totalmem()) : totalmem();
}
