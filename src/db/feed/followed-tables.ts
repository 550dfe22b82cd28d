/** The tables whose changes replicas follow. */
export const followedTables = ['devices', 'policies', 'api_keys'] as const;
export type FollowedTable = (typeof followedTables)[number];

/** The channel that the triggers of a table notify, with the id of a changed row or, if any may have changed, nothing. */
export function channelOf(table: FollowedTable): string {
  return `${table}_changed`;
}

/** Asks for the notifications of all of them. */
export const listenStatement = followedTables.map((table) => `listen ${channelOf(table)}`).join('; ');
