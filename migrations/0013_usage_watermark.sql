-- Rows of usage are summed soon after they are accepted instead of in the same transaction, and histograms of latency are merged.

-- When the segment's rows were added to the sums, in the transaction that added them; null until then. The default serves portals of the release
-- before, which add the sums where they take the segment.
ALTER TABLE usage_segments ADD COLUMN rolled_up_at timestamptz DEFAULT now();
CREATE INDEX usage_segments_pending_idx ON usage_segments (accepted_at) WHERE rolled_up_at IS NULL;

-- What the plan version's rule said of the row when it was accepted. Null in rows that were accepted before this was kept.
ALTER TABLE usage_rows ADD COLUMN billable boolean;
-- The rows of a segment stand together at the end of its stream's part of the index, so that adding them costs little however many there are.
CREATE INDEX usage_rows_segment_idx ON usage_rows (journal_id, stream, seq);
-- Distinct values are counted from the rows themselves.
CREATE INDEX usage_rows_uniques_idx ON usage_rows (namespace_id, subscription_id, period_start) WHERE uniques IS NOT NULL;

-- Sums and ledgers change in place, again and again: room in their pages keeps the indexes as they are.
ALTER TABLE usage_rollup_15m SET (fillfactor = 80);
ALTER TABLE usage_rollup_day SET (fillfactor = 70);
ALTER TABLE quota_ledger SET (fillfactor = 60);

-- The histograms of accepted segments until they are merged: JSON as gateways send it. `usage_latency` is no longer written; what it holds is merged too.
CREATE TABLE usage_latency_pending (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    histograms bytea NOT NULL
);
ALTER TABLE usage_latency_pending ALTER COLUMN histograms SET STORAGE EXTERNAL;

-- Latency of answered calls, merged per hour and per UTC day. The histogram is (bucket, count) in rising order of buckets, packed.
CREATE TABLE usage_latency_hour (
    namespace_id     uuid NOT NULL,
    subscription_id  uuid NOT NULL,
    bucket           timestamptz NOT NULL,
    route_id         uuid NOT NULL,
    histogram        bytea NOT NULL,
    PRIMARY KEY (namespace_id, subscription_id, bucket, route_id)
) WITH (fillfactor = 70);
CREATE TABLE usage_latency_day (LIKE usage_latency_hour INCLUDING ALL) WITH (fillfactor = 70);

-- One row. Rows of months that end before this were dropped by retention; null while all are there.
CREATE TABLE usage_retention (
    singleton  boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    rows_from  timestamptz
);
INSERT INTO usage_retention DEFAULT VALUES;
