CREATE TABLE "device_changes" (
	"xid" "xid8" DEFAULT pg_current_xact_id() NOT NULL,
	"device_id" text NOT NULL,
	CONSTRAINT "device_changes_xid_device_id_pk" PRIMARY KEY("xid","device_id")
);
--> statement-breakpoint
DROP INDEX "devices_updated_at_idx";