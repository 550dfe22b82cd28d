-- The ledger of a device ends with it, whoever removes it. No foreign key does that: it would forbid TRUNCATE. The function has the
-- rights of the tables' owner, as those of 0007, so that a role which may delete devices needs no more.
CREATE FUNCTION device_ledger_forget() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF TG_OP = 'DELETE' THEN
		EXECUTE format('DELETE FROM %I.device_ledger WHERE device_id = $1', TG_TABLE_SCHEMA) USING OLD.id;
	ELSE
		EXECUTE format('DELETE FROM %I.device_ledger', TG_TABLE_SCHEMA);
	END IF;
	RETURN NULL;
END
$$;
--> statement-breakpoint
REVOKE EXECUTE ON FUNCTION device_ledger_forget() FROM PUBLIC;
--> statement-breakpoint
CREATE TRIGGER device_ledger_forget AFTER DELETE ON devices FOR EACH ROW EXECUTE FUNCTION device_ledger_forget();
--> statement-breakpoint
CREATE TRIGGER device_ledger_forget_all AFTER TRUNCATE ON devices FOR EACH STATEMENT EXECUTE FUNCTION device_ledger_forget();
--> statement-breakpoint
-- What applications may use of this database: the schema svc_mqtt, see docs/sql.md. Version 1. A change that an application
-- would notice makes a new version.
--
-- Its functions have the rights of the tables' owner, so that a role needs no more than EXECUTE, and name every table
-- with its schema. The next migration calls the function below.
CREATE FUNCTION svc_mqtt_make_interface() RETURNS text LANGUAGE plpgsql SET search_path FROM CURRENT AS $make$
DECLARE
	tables text := quote_ident(current_schema());
BEGIN
	IF to_regclass('svc_mqtt.device') IS NOT NULL THEN
		RETURN 'there is a schema svc_mqtt already, of these tables or of others in this database';
	END IF;
	CREATE SCHEMA IF NOT EXISTS svc_mqtt;

	CREATE FUNCTION svc_mqtt.version() RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT 1';

	EXECUTE replace($view$
		CREATE VIEW svc_mqtt.device AS
		SELECT id, type,
			CASE WHEN revoked_at IS NOT NULL THEN 'revoked' WHEN expires_at <= now() THEN 'expired' ELSE 'active' END AS state,
			created_at, updated_at, expires_at, revoked_at, last_seen_at, metadata
		FROM {tables}.devices
	$view$, '{tables}', tables);

	EXECUTE replace($view$
		CREATE VIEW svc_mqtt.ledger AS
		SELECT device_id, received, stored, refused, delivered, last_refused_at, last_refused_reason, last_stream, last_sequence,
			first_seen_at, last_address
		FROM {tables}.device_ledger
	$view$, '{tables}', tables);

	EXECUTE replace($view$
		CREATE VIEW svc_mqtt.audit AS
		SELECT id, at, CASE WHEN actor_kind = actor THEN actor ELSE actor_kind || ':' || actor END AS actor,
			address, action, target, details
		FROM {tables}.audit_log
	$view$, '{tables}', tables);

	-- Text of that many characters of base32, five random bits each: gen_random_uuid() is PostgreSQL's strong source.
	CREATE FUNCTION svc_mqtt.random_text(characters integer) RETURNS text LANGUAGE sql VOLATILE
	SET search_path = pg_catalog, pg_temp AS $random$
		SELECT string_agg(substr('abcdefghijklmnopqrstuvwxyz234567', 1 + (get_byte(random.bytes, at) & 31), 1), '' ORDER BY at)
		FROM (SELECT sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())) AS bytes) AS random,
			generate_series(0, characters - 1) AS at
	$random$;

	-- The role that the statement runs under, which SET ROLE may have changed.
	EXECUTE replace($note$
		CREATE FUNCTION svc_mqtt.note(action text, target text, details jsonb) RETURNS void LANGUAGE sql
		SET search_path = pg_catalog, pg_temp AS $body$
			INSERT INTO {tables}.audit_log (actor_kind, actor, address, action, target, details)
			VALUES ('sql', coalesce(nullif(current_setting('role'), 'none'), session_user), host(inet_client_addr()),
				action, target, details)
		$body$
	$note$, '{tables}', tables);

	EXECUTE replace($add$
		CREATE FUNCTION svc_mqtt.add_device(type text, id text DEFAULT NULL, expires_at timestamptz DEFAULT NULL,
			metadata jsonb DEFAULT '{}')
		RETURNS TABLE (device_id text, secret text) LANGUAGE plpgsql
		SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
		#variable_conflict use_variable
		DECLARE
			salt bytea := substr(sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())), 1, 16);
			key_text text := 'svcmqtt(claim)?_[a-z2-7]{16}_[a-z2-7]+';
			entry record;
		BEGIN
			IF type IS NULL OR length(type) NOT BETWEEN 1 AND 128 OR type ~ '^-|[\u0001-\u001f\u007f-\u009f]' OR type ~* key_text THEN
				RAISE EXCEPTION 'a type has 1 to 128 characters, none of them a control character, and the first no hyphen'
				USING ERRCODE = 'invalid_parameter_value', HINT = 'Give a type such as ''sensor''.';
			END IF;
			IF id IS NOT NULL AND (id !~ '^[A-Za-z0-9_=~@!,:-]{1,128}$' OR id ~ '^-' OR id ~* key_text) THEN
				RAISE EXCEPTION 'a device id has 1 to 128 of the characters A-Z a-z 0-9 _ = ~ @ ! , : - and the first is no hyphen'
				USING ERRCODE = 'invalid_parameter_value', HINT = 'Leave it out to have one generated.';
			END IF;
			IF expires_at <= clock_timestamp() OR expires_at >= '10000-01-01Z' THEN
				RAISE EXCEPTION 'expires_at must be in the future and before the year 10000'
				USING ERRCODE = 'invalid_parameter_value', HINT = 'Leave it out for a device that does not expire.';
			END IF;
			metadata := coalesce(metadata, '{}');
			IF jsonb_typeof(metadata) <> 'object' OR (SELECT count(*) FROM jsonb_object_keys(metadata)) > 32 THEN
				RAISE EXCEPTION 'metadata is an object of at most 32 entries'
				USING ERRCODE = 'invalid_parameter_value', HINT = 'Give one such as ''{"site": "graz"}''.';
			END IF;
			FOR entry IN SELECT key, value, value #>> '{}' AS text FROM jsonb_each(metadata) LOOP
				IF entry.key !~ '^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$' OR jsonb_typeof(entry.value) <> 'string'
				OR length(entry.text) > 256 OR entry.text ~ '[\u0001-\u001f\u007f-\u009f]' OR entry.text ~* key_text THEN
					RAISE EXCEPTION 'metadata.% has a key or value that is not allowed', left(entry.key, 64)
					USING ERRCODE = 'invalid_parameter_value',
						HINT = 'Keys have 1 to 64 of A-Z a-z 0-9 _ . - and begin with a letter or digit; values are texts of at most 256 characters.';
				END IF;
			END LOOP;
			device_id := coalesce(id, svc_mqtt.random_text(16));
			secret := svc_mqtt.random_text(32);
			BEGIN
				INSERT INTO {tables}.devices (id, type, secret_hash, secret_salt, expires_at, metadata)
				VALUES (device_id, type, sha256(salt || convert_to(secret, 'UTF8')), salt, expires_at, metadata);
			EXCEPTION WHEN unique_violation THEN
				RAISE EXCEPTION 'a device with the id % exists already', device_id
				USING ERRCODE = 'unique_violation', HINT = 'Choose another id, or leave it out to have one generated.';
			END;
			PERFORM svc_mqtt.note('device.add', device_id, jsonb_strip_nulls(jsonb_build_object('type', type,
				'expires_at', to_char(expires_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
				'metadata', nullif(metadata, '{}'))));
			RETURN NEXT;
		END
		$body$
	$add$, '{tables}', tables);

	EXECUTE replace($revoke$
		CREATE FUNCTION svc_mqtt.revoke_device(id text, reason text DEFAULT NULL) RETURNS boolean LANGUAGE plpgsql
		SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
		DECLARE
			revoked timestamptz;
		BEGIN
			IF length(reason) > 1024 THEN
				RAISE EXCEPTION 'a reason has at most 1,024 characters' USING ERRCODE = 'invalid_parameter_value',
					HINT = 'Write a shorter one.';
			END IF;
			SELECT d.revoked_at INTO revoked FROM {tables}.devices AS d WHERE d.id = revoke_device.id FOR UPDATE;
			IF NOT FOUND THEN
				RAISE EXCEPTION 'there is no device with the id %', id USING ERRCODE = 'no_data_found',
					HINT = 'The view svc_mqtt.device lists them.';
			END IF;
			IF revoked IS NOT NULL THEN
				RETURN false;
			END IF;
			UPDATE {tables}.devices AS d SET revoked_at = now() WHERE d.id = revoke_device.id;
			PERFORM svc_mqtt.note('device.revoke', id, jsonb_strip_nulls(jsonb_build_object('reason', reason)));
			RETURN true;
		END
		$body$
	$revoke$, '{tables}', tables);

	-- Nobody has a right that was not given.
	REVOKE ALL ON ALL FUNCTIONS IN SCHEMA svc_mqtt FROM PUBLIC;
	RETURN NULL;
END
$make$;
--> statement-breakpoint
REVOKE EXECUTE ON FUNCTION svc_mqtt_make_interface() FROM PUBLIC;
