import type { ComponentChildren } from 'preact';
import { useState } from 'preact/hooks';
import { type ApiError, asApiError } from './api-error.js';
import type { Pages } from './pages.js';
import { Button, ProblemBox } from './ui.js';

export interface Column<Row> {
  /** What names the column, too. */
  readonly title: string;
  /** A CSS width; without one the column shares what is left. */
  readonly width?: string;
  /**
   * `right` aligns it; `medium` and `wide` say from which width of the window on it is shown; with `wrap` its text is
   * shown whole, on several lines.
   */
  readonly class?: string;
  /** What it is sorted by when one presses its title. */
  readonly sortKey?: string;
  render(row: Row): ComponentChildren;
}

/** A column in short, for where there are many. */
export function column<Row>(
  title: string,
  look: Pick<Column<Row>, 'width' | 'class' | 'sortKey'>,
  render: Column<Row>['render'],
): Column<Row> {
  return { title, ...look, render };
}

/** A table whose columns keep their places whatever is in them. */
export function Table<Row>(props: {
  caption: string;
  /** Undefined: they are not known yet. */
  rows: readonly Row[] | undefined;
  keyOf(row: Row): string | number;
  columns: readonly Column<Row>[];
  /** What stands there where there are no rows. */
  empty?: ComponentChildren;
  sort?: { readonly key: string; readonly descending: boolean };
  /** Without it, no title can be pressed. */
  onSort?: ((key: string) => void) | undefined;
}) {
  const { caption, rows, keyOf, columns, empty, sort, onSort } = props;
  if (rows === undefined) return null;
  if (rows.length === 0) return <>{empty}</>;
  return (
    <table>
      <caption>{caption}</caption>
      <colgroup>
        {columns.map(({ title, class: name, width = 'auto' }) => (
          <col key={title} class={name} style={{ width }} />
        ))}
      </colgroup>
      <thead>
        <tr>
          {columns.map(({ title, class: name, sortKey }) => {
            const isSorted = sortKey !== undefined && sortKey === sort?.key;
            const order = isSorted ? (sort.descending ? 'descending' : 'ascending') : undefined;
            return (
              <th key={title} scope="col" class={name} aria-sort={order}>
                {sortKey === undefined || onSort === undefined ? (
                  title
                ) : (
                  <button type="button" class="sort" onClick={() => onSort(sortKey)}>
                    {title}
                    <span aria-hidden="true">{isSorted && (sort.descending ? ' ↓' : ' ↑')}</span>
                  </button>
                )}
              </th>
            );
          })}
        </tr>
      </thead>
      <tbody>
        {rows.map((row) => (
          <tr key={keyOf(row)}>
            {columns.map(({ title, class: name, render }) => (
              <td key={title} class={name}>
                {render(row)}
              </td>
            ))}
          </tr>
        ))}
      </tbody>
    </table>
  );
}

/** What can be done with a row, where it can be. */
export function actionColumn<Row>(
  text: string,
  labelOf: (row: Row) => string,
  isOffered: (row: Row) => boolean,
  onClick: (row: Row) => void,
): Column<Row> {
  return {
    title: 'Action',
    width: '6.5rem',
    class: 'right',
    render: (row) =>
      isOffered(row) && (
        <Button text={text} label={labelOf(row)} class="danger small" onClick={() => onClick(row)} />
      ),
  };
}

/** A table of a list that comes page by page. */
export function PagedTable<Row>(props: {
  caption: string;
  pages: Pages<Row>;
  keyOf(row: Row): string | number;
  columns: readonly Column<Row>[];
  empty: ComponentChildren;
}) {
  const { pages, ...table } = props;
  return (
    <>
      <ProblemBox error={pages.error} />
      <Table rows={pages.rows} {...table} />
      <MoreButton more={pages.more} />
    </>
  );
}

/** Asks for the next page of a list, where there is one, and says why it does not come. */
export function MoreButton({ more }: { more: (() => Promise<void>) | undefined }) {
  return more === undefined ? null : <More more={more} />;
}

function More({ more }: { more(): Promise<void> }) {
  const [error, setError] = useState<ApiError>();
  const onClick = () => {
    setError(undefined);
    more().catch((failure: unknown) => setError(asApiError(failure)));
  };
  return (
    <>
      <ProblemBox error={error} />
      <div class="pager">
        <Button text="Show more" onClick={onClick} />
      </div>
    </>
  );
}
