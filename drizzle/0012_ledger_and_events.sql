CREATE TABLE "device_ledger" (
	"device_id" text PRIMARY KEY NOT NULL,
	"received" bigint DEFAULT 0 NOT NULL,
	"stored" bigint DEFAULT 0 NOT NULL,
	"refused" bigint DEFAULT 0 NOT NULL,
	"delivered" bigint DEFAULT 0 NOT NULL,
	"last_refused_at" timestamp with time zone,
	"last_refused_reason" text,
	"last_stream" text,
	"last_sequence" bigint,
	"first_seen_at" timestamp with time zone DEFAULT now() NOT NULL,
	"last_address" text
);
--> statement-breakpoint
CREATE TABLE "event_cursor" (
	"only" boolean PRIMARY KEY DEFAULT true NOT NULL,
	"snapshot" text NOT NULL,
	CONSTRAINT "event_cursor_only_check" CHECK ("event_cursor"."only")
);
--> statement-breakpoint
-- In two steps, so that the table is not written anew: records from before have none.
ALTER TABLE "audit_log" ADD COLUMN "xid" "xid8";--> statement-breakpoint
ALTER TABLE "audit_log" ALTER COLUMN "xid" SET DEFAULT pg_current_xact_id();--> statement-breakpoint
CREATE INDEX "audit_log_xid_idx" ON "audit_log" USING btree ("xid") WHERE "audit_log"."xid" is not null;