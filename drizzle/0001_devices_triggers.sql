-- Whoever changes a device, this program or a person in SQL: updated_at tells the periodic sweep, and a
-- notification tells the running replicas at once. last_seen_at changes neither. An INSERT needs no
-- notification, since no replica remembers that a device does not exist.
CREATE FUNCTION devices_touch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	NEW.updated_at := clock_timestamp();
	RETURN NEW;
END
$$;
--> statement-breakpoint
CREATE FUNCTION devices_notify() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF TG_OP = 'TRUNCATE' THEN
		-- The empty payload means: any device may have changed.
		PERFORM pg_notify('devices_changed', '');
	ELSE
		PERFORM pg_notify('devices_changed', OLD.id);
		IF TG_OP = 'UPDATE' AND NEW.id <> OLD.id THEN
			PERFORM pg_notify('devices_changed', NEW.id);
		END IF;
	END IF;
	RETURN NULL;
END
$$;
--> statement-breakpoint
CREATE TRIGGER devices_touch BEFORE UPDATE ON devices FOR EACH ROW
WHEN ((OLD.id, OLD.type, OLD.secret_hash, OLD.secret_salt, OLD.revoked_at)
	IS DISTINCT FROM (NEW.id, NEW.type, NEW.secret_hash, NEW.secret_salt, NEW.revoked_at))
EXECUTE FUNCTION devices_touch();
--> statement-breakpoint
CREATE TRIGGER devices_notify_update AFTER UPDATE ON devices FOR EACH ROW
WHEN ((OLD.id, OLD.type, OLD.secret_hash, OLD.secret_salt, OLD.revoked_at)
	IS DISTINCT FROM (NEW.id, NEW.type, NEW.secret_hash, NEW.secret_salt, NEW.revoked_at))
EXECUTE FUNCTION devices_notify();
--> statement-breakpoint
CREATE TRIGGER devices_notify_delete AFTER DELETE ON devices FOR EACH ROW EXECUTE FUNCTION devices_notify();
--> statement-breakpoint
CREATE TRIGGER devices_notify_truncate AFTER TRUNCATE ON devices FOR EACH STATEMENT
EXECUTE FUNCTION devices_notify();
--> statement-breakpoint
-- Leaves room for last_seen_at to be rewritten in place, without touching the indexes.
ALTER TABLE devices SET (fillfactor = 80);
