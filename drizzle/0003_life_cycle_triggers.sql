-- The columns of the life cycle, with what 0001 does for the first ones: see there.
DROP TRIGGER devices_touch ON devices;
--> statement-breakpoint
CREATE TRIGGER devices_touch BEFORE UPDATE ON devices FOR EACH ROW
WHEN ((OLD.id, OLD.type, OLD.secret_hash, OLD.secret_salt, OLD.revoked_at, OLD.expires_at, OLD.metadata,
		OLD.previous_secret_hash, OLD.previous_secret_salt, OLD.previous_secret_until, OLD.previous_secret_until_used)
	IS DISTINCT FROM (NEW.id, NEW.type, NEW.secret_hash, NEW.secret_salt, NEW.revoked_at, NEW.expires_at, NEW.metadata,
		NEW.previous_secret_hash, NEW.previous_secret_salt, NEW.previous_secret_until, NEW.previous_secret_until_used))
EXECUTE FUNCTION devices_touch();
--> statement-breakpoint
DROP TRIGGER devices_notify_update ON devices;
--> statement-breakpoint
CREATE TRIGGER devices_notify_update AFTER UPDATE ON devices FOR EACH ROW
WHEN ((OLD.id, OLD.type, OLD.secret_hash, OLD.secret_salt, OLD.revoked_at, OLD.expires_at,
		OLD.previous_secret_hash, OLD.previous_secret_salt, OLD.previous_secret_until, OLD.previous_secret_until_used)
	IS DISTINCT FROM (NEW.id, NEW.type, NEW.secret_hash, NEW.secret_salt, NEW.revoked_at, NEW.expires_at,
		NEW.previous_secret_hash, NEW.previous_secret_salt, NEW.previous_secret_until, NEW.previous_secret_until_used))
EXECUTE FUNCTION devices_notify();
--> statement-breakpoint
CREATE TRIGGER policies_touch BEFORE UPDATE ON policies FOR EACH ROW EXECUTE FUNCTION devices_touch();
--> statement-breakpoint
-- There are few policies, and every replica keeps all of them: which one changed does not matter.
CREATE FUNCTION policies_notify() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pg_notify('policies_changed', '');
	RETURN NULL;
END
$$;
--> statement-breakpoint
CREATE TRIGGER policies_notify AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON policies FOR EACH STATEMENT
EXECUTE FUNCTION policies_notify();
