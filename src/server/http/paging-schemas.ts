import Type from 'typebox';

export const maxPageLimit = 1_000;
export const defaultPageLimit = 100;

/** How many rows a page has. */
export const pageLimit = (rows: string) =>
  Type.Integer({
    minimum: 1,
    maximum: maxPageLimit,
    description: `Most ${rows} on the page; ${defaultPageLimit} when left out`,
  });

/** Where a page begins. */
export const cursorParameter = Type.String({
  minLength: 1,
  description: 'The `next_cursor` of the page before',
});
