ALTER TABLE "policies" ADD COLUMN "on_refusal" text;--> statement-breakpoint
ALTER TABLE "policies" ADD COLUMN "receipts" boolean;--> statement-breakpoint
ALTER TABLE "policies" ADD CONSTRAINT "policies_on_refusal_check" CHECK ("policies"."on_refusal" in ('withhold', 'answer'));