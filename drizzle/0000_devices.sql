CREATE TABLE "devices" (
	"id" text PRIMARY KEY NOT NULL,
	"type" text NOT NULL,
	"secret_hash" "bytea" NOT NULL,
	"secret_salt" "bytea" NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	"updated_at" timestamp with time zone DEFAULT now() NOT NULL,
	"revoked_at" timestamp with time zone,
	"last_seen_at" timestamp with time zone,
	CONSTRAINT "devices_id_check" CHECK (length("devices"."id") between 1 and 128),
	CONSTRAINT "devices_type_check" CHECK (length("devices"."type") between 1 and 128),
	CONSTRAINT "devices_secret_hash_check" CHECK (octet_length("devices"."secret_hash") = 32),
	CONSTRAINT "devices_secret_salt_check" CHECK (octet_length("devices"."secret_salt") between 16 and 64)
);
--> statement-breakpoint
CREATE INDEX "devices_type_id_idx" ON "devices" USING btree ("type","id");--> statement-breakpoint
CREATE INDEX "devices_updated_at_idx" ON "devices" USING btree ("updated_at","id");