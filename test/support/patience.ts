import { vi } from 'vitest';

/** A wait ends as soon as its condition holds; only a failure takes this long, also on a slow machine. */
const patienceMs = 30_000;

const { waitFor } = vi;
vi.waitFor = (callback, options) =>
  waitFor(callback, typeof options === 'number' ? options : { timeout: patienceMs, ...options });
