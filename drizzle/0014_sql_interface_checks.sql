-- Makes the SQL interface of 0013, or brings one that is there up to date. Where the role may not make a schema, whoever may
-- lets it, and the function below is called again.
ALTER FUNCTION svc_mqtt_make_interface() RENAME TO svc_mqtt_make_interface_1;
--> statement-breakpoint
CREATE FUNCTION svc_mqtt_make_interface() RETURNS text LANGUAGE plpgsql SET search_path FROM CURRENT AS $make$
DECLARE
	tables text := quote_ident(current_schema());
BEGIN
	-- Of these tables is the one whose view reads them.
	IF NOT EXISTS (
		SELECT FROM pg_depend JOIN pg_rewrite ON classid = 'pg_rewrite'::regclass AND objid = pg_rewrite.oid
		WHERE ev_class = to_regclass('svc_mqtt.device') AND refobjid = to_regclass(tables || '.devices')
	) THEN
		-- An empty schema may have been made for this. In one of others nothing is made, and no right taken from anybody.
		IF EXISTS (
			SELECT FROM pg_depend WHERE refclassid = 'pg_namespace'::regclass AND refobjid = to_regnamespace('svc_mqtt')
			AND classid IN ('pg_class'::regclass, 'pg_proc'::regclass, 'pg_type'::regclass)
		) THEN
			RETURN 'there is a schema svc_mqtt already, of something else or of other tables in this database';
		END IF;
		PERFORM svc_mqtt_make_interface_1();
	END IF;

	-- A reason is checked as the API does.
	EXECUTE replace($revoke$
		CREATE OR REPLACE FUNCTION svc_mqtt.revoke_device(id text, reason text DEFAULT NULL) RETURNS boolean LANGUAGE plpgsql
		SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
		DECLARE
			revoked timestamptz;
		BEGIN
			IF length(reason) NOT BETWEEN 1 AND 1024 OR reason ~ '[\u0001-\u001f\u007f-\u009f]'
			OR reason ~* 'svcmqtt(claim)?_[a-z2-7]{16}_[a-z2-7]+' THEN
				RAISE EXCEPTION 'a reason has 1 to 1,024 characters, none of them a control character, and holds no key or claim'
				USING ERRCODE = 'invalid_parameter_value', HINT = 'Leave it out, or give one such as ''stolen''.';
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
	RETURN NULL;
END
$make$;
--> statement-breakpoint
REVOKE EXECUTE ON FUNCTION svc_mqtt_make_interface() FROM PUBLIC;
--> statement-breakpoint
DO $$
DECLARE
	problem text;
BEGIN
	BEGIN
		problem := svc_mqtt_make_interface();
	EXCEPTION WHEN insufficient_privilege THEN
		problem := 'this role may not make a schema in the database, or does not own the one that is there';
	END;
	IF problem IS NOT NULL THEN
		RAISE WARNING 'the SQL interface (schema svc_mqtt) is not made or not up to date: %', problem
		USING HINT = 'Everything else works without it. See docs/sql.md.';
	END IF;
END
$$;
