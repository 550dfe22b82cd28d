import { showPayload } from '../tail-nats/payload-view.js';
import { dim, type Line, toCellText, toWidth } from '../terminal/cells.js';
import { formatBytes, formatClock, formatInteger } from '../terminal/format.js';
import type { TopState } from './state.js';

const sizeWidth = 8;

/** The messages of a device as they pass, the latest at the bottom, at most `height` lines. */
export function drawMessages({ peek, frozen }: TopState, height: number, width: number): Line[] {
  if (peek === undefined) return [];
  const { device, messages, missed, problem } = peek;
  const topicWidth = Math.max(8, Math.min(48, Math.floor(width * 0.3)));
  const title: Line = [
    dim(' MESSAGES OF '),
    { text: toCellText(device), bold: true, color: 'cyan' },
    { text: missed === 0 ? '' : `   ${formatInteger(missed)} not shown`, color: 'yellow' },
    ...(frozen ? [{ text: '   ' }, { text: ' FROZEN ', inverse: true, bold: true }] : []),
  ];
  const titles: Line = [
    dim(
      ` ${toWidth('TIME', 8)}  ${toWidth('TOPIC', topicWidth)}  ${toWidth('SIZE', sizeWidth, 'right')}  PAYLOAD`,
    ),
  ];
  const rows = messages
    .slice(-Math.max(0, height - 3))
    .map(({ at, topic, subject, size, payload_base64 }): Line => {
      const payload = Buffer.from(payload_base64, 'base64');
      const text = toCellText(showPayload(payload, width));
      const more = size > payload.length && !text.endsWith('…') ? '…' : '';
      return [
        dim(` ${formatClock(at)}  `),
        { text: `${toWidth(toCellText(topic ?? subject), topicWidth)}  ` },
        dim(`${toWidth(formatBytes(size), sizeWidth, 'right')}  `),
        { text: text + more },
      ];
    });
  if (problem !== undefined) rows.push([{ text: `   ${toCellText(problem)}`, color: 'red' }]);
  else if (rows.length === 0) rows.push([dim('   None has passed yet.')]);
  return [title, titles, ...rows.slice(-Math.max(0, height - 2))];
}
