import { drizzle, type NodePgDatabase } from 'drizzle-orm/node-postgres';
import type pg from 'pg';
import { SvcMqttError } from '../../errors.js';
import { codeOf } from './database-errors.js';
import type { Database } from './open.js';
import { query } from './query.js';

/**
 * Runs `work` in one transaction on one connection of the pool. A connection that may still be busy or broken, as
 * after a query that took too long, is closed and not given back.
 *
 * @throws as `query`, and what `work` throws.
 */
export async function inTransaction<T>(
  db: Database,
  work: (orm: NodePgDatabase, client: pg.ClientBase) => Promise<T>,
  isolation: 'read committed' | 'repeatable read' = 'read committed',
): Promise<T> {
  return await query(db, async () => {
    const client = await db.pool.connect();
    let broken = true;
    try {
      await client.query(`begin isolation level ${isolation}`);
      const result = await work(drizzle(client), client);
      await client.query('commit');
      broken = false;
      return result;
    } catch (error) {
      // A connection that answered with an error of SQL, or that our own check stopped, can be asked to roll back.
      if (error instanceof SvcMqttError || /^[0-9A-Z]{5}$/.test(codeOf(error) ?? '')) {
        broken = await client.query('rollback').then(
          () => false,
          () => true,
        );
      }
      throw error;
    } finally {
      client.release(broken);
    }
  });
}
