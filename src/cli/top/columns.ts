import type { ConnectionJson, ConnectionPageJson, SortField } from '../../api/connection.js';
import { cellWidth, toCellText } from '../terminal/cells.js';
import { formatAge, formatBytes, formatCountShort, formatShort } from '../terminal/format.js';

/** Where a column stands, whatever is in it. */
export interface ColumnShape {
  readonly field: string;
  readonly title: string;
  readonly align: 'left' | 'right';
  /** The smallest numbers stay longest when the terminal is narrow. */
  readonly priority: number;
  readonly minWidth: number;
  readonly maxWidth: number;
}

/** A column of a table of such rows. */
export interface ColumnOf<Row> extends ColumnShape {
  /** @param nowMs the server's time when the row was read. */
  text(row: Row, nowMs: number): string;
}

/** @param sizes the priority, the smallest and the largest width; that is the smallest where it is left out. */
export function column<Row, Field extends string>(
  field: Field,
  title: string,
  [priority, minWidth, maxWidth = minWidth]: readonly [number, number, number?],
  text: ColumnOf<Row>['text'],
  align: 'left' | 'right' = 'right',
): ColumnOf<Row> & { readonly field: Field } {
  return { field, title, align, priority, minWidth, maxWidth, text };
}

/** One column of the table of connections. */
export type Column = ColumnOf<ConnectionJson> & { readonly field: SortField | 'replica' };

/** All columns that can be sorted by, as they stand from left to right. */
export const columns: readonly (Column & { readonly field: SortField })[] = [
  column('device', 'DEVICE', [1, 10, 40], ({ device }) => toCellText(device), 'left'),
  column('type', 'TYPE', [7, 6, 24], ({ type }) => toCellText(type), 'left'),
  column('client', 'CLIENT ID', [2, 11, 64], ({ client }) => toCellText(client), 'left'),
  column('address', 'ADDRESS', [8, 15, 28], ({ address }) => toCellText(address), 'left'),
  column('protocol', 'MQTT', [12, 5], ({ protocol }) => toCellText(protocol), 'left'),
  column('transport', 'VIA', [11, 4], ({ transport }) => toCellText(transport), 'left'),
  column('qos', 'QOS 0/1/2 %', [9, 11], ({ received }) => formatMix(received)),
  column('rate', 'MSG/S', [3, 7], ({ rate }) => (rate === null ? '…' : formatShort(rate))),
  column('messages', 'MESSAGES', [13, 9], ({ received }) => formatCountShort(countReceived(received))),
  column('bytes', 'BYTES', [14, 9], ({ bytes_in, bytes_out }) => formatBytes(bytes_in + bytes_out)),
  column('in_flight', 'IN FLIGHT', [5, 9], ({ in_flight }) => formatCountShort(in_flight)),
  column('subscriptions', 'SUBS', [10, 5], ({ subscriptions }) => formatCountShort(subscriptions)),
  column('connected', 'CONNECTED', [6, 9], ({ connected_at }, nowMs) =>
    formatAge(nowMs - Date.parse(connected_at)),
  ),
  column('last_message', 'LAST MSG', [4, 8], ({ last_message_at }, nowMs) =>
    last_message_at === null ? '–' : formatAge(nowMs - Date.parse(last_message_at)),
  ),
];

const replicaColumn = column('replica', 'REPLICA', [7.5, 7], ({ replica }) => toCellText(replica), 'left');
/** It stands behind the type of the device. */
const withReplica: readonly Column[] = [...columns.slice(0, 2), replicaColumn, ...columns.slice(2)];

/** All columns there are, with that of the replica only where there are several. */
export function columnsOf({ replicas }: Pick<ConnectionPageJson, 'replicas'>): readonly Column[] {
  return replicas.length > 1 ? withReplica : columns;
}

/** Whether the largest comes first: as is natural for the column, where what matters comes first, or the other way round. */
export function sortsDescending(sort: SortField, reverse: boolean): boolean {
  const { align } = columns.find(({ field }) => field === sort) ?? {};
  const first = align === 'right' && sort !== 'last_message';
  return reverse ? !first : first;
}

export function countReceived({ qos0, qos1, qos2 }: ConnectionJson['received']): number {
  return qos0 + qos1 + qos2;
}

/** Shares of QoS 0, 1 and 2 in percent, each in three cells. */
export function formatMix({ qos0, qos1, qos2 }: ConnectionJson['received']): string {
  const total = qos0 + qos1 + qos2;
  if (total === 0) return '–';
  return [qos0, qos1, qos2]
    .map((count) => (count === 0 ? '·' : String(Math.max(1, Math.round((count * 100) / total)))).padStart(3))
    .join(' ');
}

export const gap = 2;
/** Room for the arrow of the column that is sorted by. */
const arrowWidth = 1;

/** The widest text of each flexible column, at most its maximum. */
export type Widths = Readonly<Record<string, number>>;

/** Widths that hold the rows too. They only grow, so that columns do not jump while one watches. */
export function growWidths<C extends ColumnShape, Row>(
  widths: Widths,
  shown: readonly C[],
  rows: readonly Row[],
  textOf: (column: C, row: Row) => string,
): Widths {
  const grown: Record<string, number> = { ...widths };
  for (const column of shown) {
    const { field, minWidth, maxWidth } = column;
    if (minWidth === maxWidth) continue;
    let most = grown[field] ?? minWidth;
    for (const row of rows) most = Math.max(most, cellWidth(textOf(column, row)));
    grown[field] = Math.min(most, maxWidth);
  }
  return grown;
}

/** The same for connections. */
export function growToConnections(widths: Widths, rows: readonly ConnectionJson[]): Widths {
  return growWidths(widths, columns, rows, ({ text }, row) => text(row, 0));
}

export type Placed<C extends ColumnShape> = C & { readonly width: number };

/** The length of a generated device id: a column less is better than an id that is cut. */
const idWidth = 16;

/** Columns of this priority and less are shown when all others have what they want. */
const spare = 13;

/**
 * The columns that fit into a width, with their widths: first each as narrow as it may be, by priority; then what is
 * left goes to those that want more, the most important one first.
 */
export function placeColumns<C extends ColumnShape>(
  width: number,
  widths: Widths,
  shown: readonly C[],
): Placed<C>[] {
  const narrowest = ({ field, minWidth, title }: C) =>
    Math.max(
      minWidth,
      title.length + arrowWidth,
      field === 'device' ? Math.min(idWidth, widths.device ?? 0) : 0,
    );
  const placed = new Map<C, number>();
  let left = width + gap;
  const place = (candidates: readonly C[]) => {
    for (const each of candidates) {
      const needed = narrowest(each) + gap;
      if (needed > left && placed.size > 0) return;
      placed.set(each, Math.min(narrowest(each), Math.max(1, width)));
      left -= needed;
    }
  };
  const byPriority = [...shown].sort((a, b) => a.priority - b.priority);
  place(byPriority.filter(({ priority }) => priority < spare));
  const isWhole = placed.size === byPriority.filter(({ priority }) => priority < spare).length;
  for (const [each, at] of placed) {
    const extra = Math.max(0, Math.min(left, (widths[each.field] ?? 0) - at));
    placed.set(each, at + extra);
    left -= extra;
  }
  if (isWhole) place(byPriority.filter(({ priority }) => priority >= spare));
  return shown.flatMap((each) => {
    const at = placed.get(each);
    return at === undefined ? [] : [{ ...each, width: at }];
  });
}
