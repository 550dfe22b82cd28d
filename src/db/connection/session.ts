import type pg from 'pg';

/**
 * Sets a parameter for a session of its own. Through a connection pooler nothing is set: there a session is of a server
 * connection, which serves others after this transaction, and the setting would be theirs. A pooler is seen by the number
 * of the server process, which is another than the connection was told at its start.
 *
 * @returns whether the session is this connection's own.
 */
export async function setForSession(client: pg.ClientBase, name: string, value: string): Promise<boolean> {
  // The driver's types do not know the number.
  const { processID } = client as pg.ClientBase & { readonly processID: number | null };
  const { rowCount } = await client.query(
    'select set_config($1, $2, false) where pg_backend_pid() = $3::int',
    [name, value, processID],
  );
  return rowCount === 1;
}

/**
 * Has times written as ISO 8601, as they are read here, whatever form is set for the database or the user, now or later.
 * Through a pooler as well: PgBouncer keeps this parameter for each of its clients.
 */
export async function writeTimesAsIso(client: pg.ClientBase): Promise<void> {
  await client.query(`select set_config('datestyle', 'ISO', false)`);
}
