import { setTimeout as delay } from 'node:timers/promises';
import { openLiveApi } from '../../src/cli/store/live-api.js';
import { startTopSession } from '../../src/cli/top/session.js';
import { initialState } from '../../src/cli/top/state.js';

export interface WatchResult {
  /** Between two updates of the list, ms. */
  readonly topMs: readonly number[];
  readonly consoleMs: readonly number[];
  /** Connections that the last page says there are. */
  readonly total: number;
  readonly failed: number;
}

const consoleEveryMs = 1_000;
const consoleRows = 50;

/** `top`, without its terminal, and what the console's page of connections asks, each of the same view. */
export function openWatcher({ apiUrl }: { apiUrl: string }) {
  let failed = 0;
  const api = openLiveApi(async (method, path) => {
    const response = await fetch(`${apiUrl}${path}`, { method });
    const text = await response.text();
    if (response.status !== 200) failed += 1;
    return { status: response.status, text };
  });

  return {
    async watch(view: {
      deep: boolean;
      filter: string;
      sort: 'rate' | 'client';
      warmUpMs: number;
      forMs: number;
    }): Promise<WatchResult> {
      failed = 0;
      const { deep, filter, sort } = view;
      const descending = sort === 'rate';
      const initial = initialState({ columns: 160, rows: 50, filter, sort, descending });
      const session = startTopSession({ api, follow: async () => {}, initial, copy: () => {} });
      const topMs: number[] = [];
      const consoleMs: number[] = [];
      let page = session.state.page;
      let moved = false;
      let shownMs = performance.now();
      session.subscribe(() => {
        if (session.state.page === page) return;
        page = session.state.page;
        const nowMs = performance.now();
        topMs.push(nowMs - shownMs);
        shownMs = nowMs;
        if (!deep || moved || page === undefined) return;
        moved = true;
        session.dispatch({ type: 'move', by: Math.floor(page.matching / 2) });
      });
      let total = 0;
      let open = true;
      const browser = async () => {
        let updatedMs = performance.now();
        while (open) {
          const askedMs = performance.now();
          const offset = deep ? Math.floor(total / 2) : 0;
          const [answer] = await Promise.all([
            api.page({ filter, sort, descending, offset, limit: consoleRows }),
            api.fleet(),
          ]);
          total = answer.matching;
          const nowMs = performance.now();
          consoleMs.push(nowMs - updatedMs);
          updatedMs = nowMs;
          await delay(Math.max(0, askedMs + consoleEveryMs - nowMs));
        }
      };
      const browsing = browser();
      await delay(view.warmUpMs);
      topMs.length = 0;
      consoleMs.length = 0;
      await delay(view.forMs);
      session.close();
      open = false;
      const result = { topMs: [...topMs], consoleMs: [...consoleMs], total: page?.total ?? 0, failed };
      await browsing;
      return result;
    },
  };
}
