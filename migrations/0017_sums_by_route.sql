-- Sums without keys, for what does not ask about keys: a tenant with many keys has many times fewer of them.

-- What is copied here may be more than a statement of a request is given time for.
SET LOCAL statement_timeout = 0;
-- The lock under which sums are added to: whoever adds waits until they are copied, and no segment is taken for summed that is not. Usage is accepted meanwhile.
DO $$ BEGIN PERFORM pg_advisory_xact_lock(x'73756d73'::bigint); END $$;

-- Sums per hour, with the calls of its four quarters: days of any time zone begin at one of them.
CREATE TABLE usage_route_hour (
    namespace_id     uuid NOT NULL,
    subscription_id  uuid NOT NULL,
    plan_version_id  uuid NOT NULL,
    period_start     timestamptz NOT NULL,
    bucket           timestamptz NOT NULL,
    route_id         uuid NOT NULL,
    meter_id         uuid NOT NULL,
    status           smallint NOT NULL,
    mode             text NOT NULL,
    billable         boolean NOT NULL,
    count_00         bigint NOT NULL,
    count_15         bigint NOT NULL,
    count_30         bigint NOT NULL,
    count_45         bigint NOT NULL,
    sum              numeric NOT NULL,
    max              numeric NOT NULL,
    last             numeric NOT NULL,
    last_at          timestamptz NOT NULL,
    PRIMARY KEY (namespace_id, subscription_id, bucket, meter_id, route_id, status, mode, billable, plan_version_id, period_start)
) WITH (fillfactor = 80);

-- Sums per UTC day.
CREATE TABLE usage_route_day (
    namespace_id     uuid NOT NULL,
    subscription_id  uuid NOT NULL,
    plan_version_id  uuid NOT NULL,
    period_start     timestamptz NOT NULL,
    bucket           timestamptz NOT NULL,
    route_id         uuid NOT NULL,
    meter_id         uuid NOT NULL,
    status           smallint NOT NULL,
    mode             text NOT NULL,
    billable         boolean NOT NULL,
    count            bigint NOT NULL,
    sum              numeric NOT NULL,
    max              numeric NOT NULL,
    last             numeric NOT NULL,
    last_at          timestamptz NOT NULL,
    PRIMARY KEY (namespace_id, subscription_id, bucket, meter_id, route_id, status, mode, billable, plan_version_id, period_start)
) WITH (fillfactor = 70);

-- In the order of time, as usage brings them.
INSERT INTO usage_route_hour (namespace_id, subscription_id, plan_version_id, period_start, bucket, route_id, meter_id, status, mode, billable,
    count_00, count_15, count_30, count_45, sum, max, last, last_at)
SELECT namespace_id, subscription_id, plan_version_id, period_start, date_bin('1 hour', bucket, 'epoch') AS hour, route_id, meter_id, status, mode, billable,
    coalesce(sum(count) FILTER (WHERE bucket - date_bin('1 hour', bucket, 'epoch') = '0 minutes'), 0),
    coalesce(sum(count) FILTER (WHERE bucket - date_bin('1 hour', bucket, 'epoch') = '15 minutes'), 0),
    coalesce(sum(count) FILTER (WHERE bucket - date_bin('1 hour', bucket, 'epoch') = '30 minutes'), 0),
    coalesce(sum(count) FILTER (WHERE bucket - date_bin('1 hour', bucket, 'epoch') = '45 minutes'), 0),
    sum(sum), max(max), (max(ARRAY[extract(epoch FROM last_at), last]))[2], max(last_at)
FROM usage_rollup_15m GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 ORDER BY hour, namespace_id, subscription_id, meter_id, route_id;

INSERT INTO usage_route_day (namespace_id, subscription_id, plan_version_id, period_start, bucket, route_id, meter_id, status, mode, billable,
    count, sum, max, last, last_at)
SELECT namespace_id, subscription_id, plan_version_id, period_start, bucket, route_id, meter_id, status, mode, billable,
    sum(count), sum(sum), max(max), (max(ARRAY[extract(epoch FROM last_at), last]))[2], max(last_at)
FROM usage_rollup_day GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 ORDER BY bucket, namespace_id, subscription_id, meter_id, route_id;

-- When the segment's rows were added to the sums by route; null until then. A portal of the release before adds to the sums by key alone and leaves it
-- null, so that the next round of this release adds what is missing. All that the sums by key held above is in both.
ALTER TABLE usage_segments ADD COLUMN rolled_up_by_route_at timestamptz DEFAULT now();
ALTER TABLE usage_segments ALTER COLUMN rolled_up_by_route_at DROP DEFAULT;
UPDATE usage_segments SET rolled_up_by_route_at = NULL WHERE rolled_up_at IS NULL;
CREATE INDEX usage_segments_by_route_pending_idx ON usage_segments (accepted_at) WHERE rolled_up_by_route_at IS NULL;
