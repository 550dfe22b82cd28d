-- What 0007 does for devices, for tables that change seldom: the table is told, and not which of its rows. The function
-- has the rights of the tables' owner for the same reason.
CREATE FUNCTION table_notify() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	EXECUTE format('INSERT INTO %I.table_changes (table_name) VALUES ($1) ON CONFLICT DO NOTHING', TG_TABLE_SCHEMA)
	USING TG_TABLE_NAME;
	PERFORM pg_notify(TG_TABLE_NAME || '_changed', '');
	RETURN NULL;
END
$$;
--> statement-breakpoint
REVOKE EXECUTE ON FUNCTION table_notify() FROM PUBLIC;
--> statement-breakpoint
DROP TRIGGER policies_notify ON policies;
--> statement-breakpoint
DROP FUNCTION policies_notify();
--> statement-breakpoint
CREATE TRIGGER policies_notify AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON policies FOR EACH STATEMENT
EXECUTE FUNCTION table_notify();
--> statement-breakpoint
-- That a key was used, which is written every minute, is no change.
CREATE TRIGGER api_keys_notify AFTER INSERT OR DELETE OR TRUNCATE
OR UPDATE OF id, name, role, secret_hash, secret_salt, expires_at, revoked_at ON api_keys FOR EACH STATEMENT
EXECUTE FUNCTION table_notify();
