import { expect, it, vi } from 'vitest';
import { openLog } from '../../src/log.js';
import { startDropReport } from '../../src/server/operate/drop-report.js';

it('says what was dropped since the last report, and nothing when nothing was', () => {
  vi.useFakeTimers();
  try {
    const lines: Record<string, unknown>[] = [];
    const log = openLog({
      level: 'info',
      format: 'json',
      destination: { write: (line: string) => void lines.push(JSON.parse(line)) },
    });
    const counters = { qos0: 5, wills: 0 };
    const end = startDropReport(() => ({ ...counters }), log);
    vi.advanceTimersByTime(30_000);
    expect(lines).toEqual([]);
    counters.qos0 = 12;
    vi.advanceTimersByTime(10_000);
    expect(lines).toHaveLength(1);
    expect(lines[0]).toMatchObject({ event: 'messages_dropped', qos0: 7 });
    expect(lines[0]).not.toHaveProperty('wills');
    counters.wills = 1;
    end();
    expect(lines[1]).toMatchObject({ event: 'messages_dropped', wills: 1 });
    vi.advanceTimersByTime(30_000);
    expect(lines).toHaveLength(2);
  } finally {
    vi.useRealTimers();
  }
});
