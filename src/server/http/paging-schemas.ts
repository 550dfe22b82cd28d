import Type from 'typebox';

const maxPageLimit = 1_000;
export const defaultPageLimit = 100;

/** How many rows a page has. */
export const pageLimit = (rows: string) =>
  Type.Integer({
    minimum: 1,
    maximum: maxPageLimit,
    default: defaultPageLimit,
    description: `Most ${rows} on the page`,
  });

/** Where a page begins. */
export const cursorParameter = Type.String({
  minLength: 1,
  description: '`next_cursor` of the page before; it belongs to the same filters',
});

/** Where the next page begins. */
export const nextCursor = Type.Union([Type.String(), Type.Null()], {
  description: 'What `cursor` takes for the next page; null: this is the last one',
});
