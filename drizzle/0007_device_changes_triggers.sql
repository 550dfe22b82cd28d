-- A notification reaches only who listens at that moment, and not through every connection pooler. So what is notified is
-- written down as well, by transaction, for a replica to ask what was committed since it last asked. It is written whoever
-- makes the change, so with the rights of the tables' owner. Nobody else may put the function on a table of theirs:
-- the table that it writes to is the one beside that table.
CREATE OR REPLACE FUNCTION devices_notify() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	ids text[];
BEGIN
	IF TG_OP = 'UPDATE' THEN
		-- The columns that matter, as in 0003; with a new id, both.
		ids := ARRAY(
			SELECT id FROM old_rows AS o FULL JOIN new_rows AS n USING (id)
			WHERE (o.type, o.secret_hash, o.secret_salt, o.revoked_at, o.expires_at,
					o.previous_secret_hash, o.previous_secret_salt, o.previous_secret_until, o.previous_secret_until_used)
				IS DISTINCT FROM (n.type, n.secret_hash, n.secret_salt, n.revoked_at, n.expires_at,
					n.previous_secret_hash, n.previous_secret_salt, n.previous_secret_until, n.previous_secret_until_used)
			LIMIT 10001
		);
	ELSIF TG_OP = 'DELETE' THEN
		ids := ARRAY(SELECT id FROM old_rows LIMIT 10001);
	END IF;
	IF TG_OP = 'TRUNCATE' OR cardinality(ids) > 10000 THEN
		-- The empty id means: any device may have changed.
		ids := ARRAY[''];
	ELSIF cardinality(ids) = 0 THEN
		RETURN NULL;
	END IF;
	EXECUTE format('INSERT INTO %I.device_changes (device_id) SELECT unnest($1) ON CONFLICT DO NOTHING', TG_TABLE_SCHEMA)
	USING ids;
	PERFORM pg_notify('devices_changed', id) FROM unnest(ids) AS changed (id);
	RETURN NULL;
END
$$;
--> statement-breakpoint
REVOKE EXECUTE ON FUNCTION devices_notify() FROM PUBLIC;
--> statement-breakpoint
-- Once a statement and not once a row: a change of the whole fleet costs little more than without.
DROP TRIGGER devices_notify_update ON devices;
--> statement-breakpoint
CREATE TRIGGER devices_notify_update AFTER UPDATE ON devices REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
FOR EACH STATEMENT EXECUTE FUNCTION devices_notify();
--> statement-breakpoint
DROP TRIGGER devices_notify_delete ON devices;
--> statement-breakpoint
CREATE TRIGGER devices_notify_delete AFTER DELETE ON devices REFERENCING OLD TABLE AS old_rows
FOR EACH STATEMENT EXECUTE FUNCTION devices_notify();
