CREATE TABLE "table_changes" (
	"xid" "xid8" DEFAULT pg_current_xact_id() NOT NULL,
	"table_name" text NOT NULL,
	CONSTRAINT "table_changes_xid_table_name_pk" PRIMARY KEY("xid","table_name")
);
