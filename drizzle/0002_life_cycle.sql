CREATE TABLE "api_keys" (
	"id" text PRIMARY KEY NOT NULL,
	"name" text NOT NULL,
	"role" text NOT NULL,
	"secret_hash" "bytea" NOT NULL,
	"secret_salt" "bytea" NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	"expires_at" timestamp with time zone,
	"revoked_at" timestamp with time zone,
	"last_used_at" timestamp with time zone,
	CONSTRAINT "api_keys_name_check" CHECK (length("api_keys"."name") between 1 and 128),
	CONSTRAINT "api_keys_role_check" CHECK ("api_keys"."role" in ('viewer', 'provisioner', 'operator'))
);
--> statement-breakpoint
CREATE TABLE "audit_log" (
	"id" bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY (sequence name "audit_log_id_seq" INCREMENT BY 1 MINVALUE 1 MAXVALUE 9223372036854775807 START WITH 1 CACHE 1),
	"at" timestamp with time zone DEFAULT now() NOT NULL,
	"actor_kind" text NOT NULL,
	"actor" text NOT NULL,
	"action" text NOT NULL,
	"target" text NOT NULL,
	"address" text,
	"details" jsonb DEFAULT '{}'::jsonb NOT NULL
);
--> statement-breakpoint
CREATE TABLE "claims" (
	"id" text PRIMARY KEY NOT NULL,
	"device_type" text NOT NULL,
	"secret_hash" "bytea" NOT NULL,
	"secret_salt" "bytea" NOT NULL,
	"uses" integer NOT NULL,
	"uses_left" integer NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	"expires_at" timestamp with time zone NOT NULL,
	"revoked_at" timestamp with time zone,
	CONSTRAINT "claims_device_type_check" CHECK (length("claims"."device_type") between 1 and 128),
	CONSTRAINT "claims_uses_check" CHECK ("claims"."uses" > 0 and "claims"."uses_left" between 0 and "claims"."uses")
);
--> statement-breakpoint
CREATE TABLE "policies" (
	"device_type" text PRIMARY KEY NOT NULL,
	"publish" text[] NOT NULL,
	"subscribe" text[] NOT NULL,
	"publish_rate" integer,
	"max_packet_bytes" integer,
	"nats_subject" text,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	"updated_at" timestamp with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "policies_device_type_check" CHECK (length("policies"."device_type") between 1 and 128),
	CONSTRAINT "policies_publish_rate_check" CHECK ("policies"."publish_rate" > 0),
	CONSTRAINT "policies_max_packet_bytes_check" CHECK ("policies"."max_packet_bytes" > 0)
);
--> statement-breakpoint
ALTER TABLE "devices" ADD COLUMN "expires_at" timestamp with time zone;--> statement-breakpoint
ALTER TABLE "devices" ADD COLUMN "metadata" jsonb DEFAULT '{}'::jsonb NOT NULL;--> statement-breakpoint
ALTER TABLE "devices" ADD COLUMN "previous_secret_hash" "bytea";--> statement-breakpoint
ALTER TABLE "devices" ADD COLUMN "previous_secret_salt" "bytea";--> statement-breakpoint
ALTER TABLE "devices" ADD COLUMN "previous_secret_until" timestamp with time zone;--> statement-breakpoint
ALTER TABLE "devices" ADD COLUMN "previous_secret_until_used" boolean DEFAULT false NOT NULL;--> statement-breakpoint
ALTER TABLE "devices" ADD COLUMN "last_secret_used" text;--> statement-breakpoint
CREATE UNIQUE INDEX "api_keys_name_idx" ON "api_keys" USING btree ("name") WHERE "api_keys"."revoked_at" is null;--> statement-breakpoint
CREATE INDEX "audit_log_target_idx" ON "audit_log" USING btree ("target","id");--> statement-breakpoint
CREATE INDEX "audit_log_at_idx" ON "audit_log" USING btree ("at","id");--> statement-breakpoint
CREATE INDEX "devices_metadata_idx" ON "devices" USING gin ("metadata" jsonb_path_ops);--> statement-breakpoint
ALTER TABLE "devices" ADD CONSTRAINT "devices_previous_secret_check" CHECK (("devices"."previous_secret_hash" is null) = ("devices"."previous_secret_salt" is null)
        and ("devices"."previous_secret_hash" is null) = ("devices"."previous_secret_until" is null));--> statement-breakpoint
ALTER TABLE "devices" ADD CONSTRAINT "devices_metadata_check" CHECK (jsonb_typeof("devices"."metadata") = 'object');--> statement-breakpoint
ALTER TABLE "devices" ADD CONSTRAINT "devices_last_secret_used_check" CHECK ("devices"."last_secret_used" in ('current', 'previous'));