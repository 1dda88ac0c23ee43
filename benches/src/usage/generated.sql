-- Ninety days of usage as it is after it was accepted, written straight into the tables: a hundred million rows by default ($ROWS), of tenants whose
-- sizes fall as 1/n. Sums stand in the order in which time brings them. The rows themselves, which no page reads, are written for the last $DAYS days; the sums for all ninety. A key that is used in a quarter of an hour has a row in each of its minutes. Statements are separated by lines of dashes.
SET synchronous_commit = off
--------
SET maintenance_work_mem = '1GB'
--------
SET work_mem = '256MB'
--------
DO $$
DECLARE
    from_day timestamptz := date_trunc('month', now() - interval '90 days', 'UTC');
    parent text;
BEGIN
    WHILE from_day < now() + interval '2 months' LOOP
        FOREACH parent IN ARRAY ARRAY['usage_rows', 'usage_latency'] LOOP
            EXECUTE format('CREATE TABLE IF NOT EXISTS %I PARTITION OF %I FOR VALUES FROM (%L) TO (%L)',
                parent || '_' || to_char(from_day AT TIME ZONE 'UTC', 'YYYY_MM'), parent, from_day, date_trunc('month', from_day + interval '40 days', 'UTC'));
        END LOOP;
        from_day := date_trunc('month', from_day + interval '40 days', 'UTC');
    END LOOP;
END $$
--------
CREATE UNLOGGED TABLE generated_tenants AS
    SELECT t.id AS tenant_id, s.id AS subscription_id, s.application_id, s.plan_version_id, split_part(t.name, ' ', 2)::integer AS n,
        (SELECT array_agg(k.id) FROM api_keys k WHERE k.tenant_id = t.id) AS keys
    FROM tenants t JOIN subscriptions s ON s.tenant_id = t.id
--------
INSERT INTO usage_rollup_15m (namespace_id, subscription_id, plan_version_id, period_start, bucket, application_id, api_key_id, route_id, meter_id, status,
    mode, billable, count, sum, min, max, last, last_at)
SELECT tenant_id, subscription_id, plan_version_id, date_trunc('month', bucket, 'UTC'), bucket, application_id, api_key_id, route_id,
    (SELECT id FROM meters), status, 'live', status NOT IN (429, 500), 15 * calls, 15 * calls, 1, 1, 1, bucket + interval '14 minutes'
FROM (
    SELECT t.tenant_id, t.subscription_id, t.plan_version_id, t.application_id,
        date_bin('15 minutes', now(), 'epoch') - interval '15 minutes' * floor(random() * 8640)::integer AS bucket,
        t.keys[1 + floor(random() * cardinality(t.keys))::integer] AS api_key_id,
        r.ids[1 + floor(random() * random() * cardinality(r.ids))::integer] AS route_id,
        (ARRAY[200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 404, 304, 429, 500])[1 + floor(random() * 20)::integer]
            AS status, 1 + floor(random() * 5)::integer AS calls
    FROM generated_tenants t
    CROSS JOIN (SELECT array_agg(id ORDER BY path) AS ids FROM routes) r
    CROSS JOIN LATERAL generate_series(1, greatest(1, ($ROWS / 15 / (SELECT sum(1.0 / n) FROM generated_tenants) / t.n)::integer))
) drawn
ORDER BY bucket, tenant_id, subscription_id, route_id, api_key_id
ON CONFLICT DO NOTHING
--------
INSERT INTO usage_rollup_day (namespace_id, subscription_id, plan_version_id, period_start, bucket, application_id, api_key_id, route_id, meter_id, status,
    mode, billable, count, sum, min, max, last, last_at)
SELECT namespace_id, subscription_id, plan_version_id, period_start, date_bin('1 day', bucket, 'epoch'), application_id, api_key_id, route_id, meter_id,
    status, mode, billable, sum(count), sum(sum), 1, 1, 1, max(last_at)
FROM usage_rollup_15m GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12 ORDER BY 5, 1, 2, 8, 7
--------
INSERT INTO usage_route_hour (namespace_id, subscription_id, plan_version_id, period_start, bucket, route_id, meter_id, status, mode, billable,
    count_00, count_15, count_30, count_45, sum, max, last, last_at)
SELECT namespace_id, subscription_id, plan_version_id, period_start, date_bin('1 hour', bucket, 'epoch'), route_id, meter_id, status, mode, billable,
    coalesce(sum(count) FILTER (WHERE extract(minute FROM bucket) = 0), 0), coalesce(sum(count) FILTER (WHERE extract(minute FROM bucket) = 15), 0),
    coalesce(sum(count) FILTER (WHERE extract(minute FROM bucket) = 30), 0), coalesce(sum(count) FILTER (WHERE extract(minute FROM bucket) = 45), 0),
    sum(sum), 1, 1, max(last_at)
FROM usage_rollup_15m GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 ORDER BY 5, 1, 2, 7, 6
--------
INSERT INTO usage_route_day (namespace_id, subscription_id, plan_version_id, period_start, bucket, route_id, meter_id, status, mode, billable,
    count, sum, max, last, last_at)
SELECT namespace_id, subscription_id, plan_version_id, period_start, bucket, route_id, meter_id, status, mode, billable, sum(count), sum(sum), 1, 1,
    max(last_at)
FROM usage_rollup_day GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 ORDER BY 5, 1, 2, 7, 6
--------
DROP INDEX usage_rows_subscription_idx, usage_rows_segment_idx
--------
INSERT INTO usage_rows (namespace_id, subscription_id, plan_version_id, period_start, application_id, api_key_id, route_id, meter_id, status, answered_by,
    mode, minute, count, incomplete, sum, min, max, last, last_at, journal_id, stream, seq, accepted_at, billable)
SELECT namespace_id, subscription_id, plan_version_id, period_start, application_id, api_key_id, route_id, meter_id, status,
    CASE status WHEN 429 THEN 'gateway' ELSE 'upstream' END, mode, minute, count / 15, 0, sum / 15, 1, 1, 1, minute,
    '00000000-0000-7000-8000-000000000001', 0, extract(epoch FROM minute)::bigint / 60, minute, billable
FROM (SELECT * FROM usage_rollup_15m WHERE bucket >= now() - interval '$DAYS days' ORDER BY bucket) u
CROSS JOIN LATERAL (SELECT u.bucket + interval '1 minute' * g AS minute FROM generate_series(0, 14) g) m
--------
CREATE INDEX usage_rows_subscription_idx ON usage_rows (namespace_id, subscription_id, minute)
--------
CREATE INDEX usage_rows_segment_idx ON usage_rows (journal_id, stream, seq)
--------
INSERT INTO usage_segments (journal_id, stream, seq, segment_digest, prev_digest, fold_version, records, rows, next_receipt, final_receipts, accepted_at,
    rolled_up_at, rolled_up_by_route_at)
SELECT journal_id, stream, seq, sha256(seq::text::bytea), sha256((seq - 1)::text::bytea), 1, sum(count), count(*), 0, '[]', min(minute), now(), now()
FROM usage_rows GROUP BY 1, 2, 3
--------
INSERT INTO usage_latency_hour
SELECT DISTINCT namespace_id, subscription_id, date_bin('1 hour', bucket, 'epoch'), route_id, '\xa00105'::bytea || decode(repeat('0105', 79), 'hex')
FROM usage_rollup_15m
--------
INSERT INTO usage_latency_day
SELECT DISTINCT namespace_id, subscription_id, date_bin('1 day', bucket, 'epoch'), route_id, '\xa00105'::bytea || decode(repeat('0105', 79), 'hex')
FROM usage_rollup_15m
--------
INSERT INTO users (id, email, name, password_hash, verified_at, created_at) VALUES (gen_random_uuid(), 'reader@tenant.example', 'Reader', 'none', now(), now())
--------
INSERT INTO memberships (tenant_id, user_id, role, created_at)
SELECT t.tenant_id, u.id, 'owner', now() FROM generated_tenants t CROSS JOIN users u WHERE t.n IN (1, 5000)
--------
INSERT INTO sessions (digest, user_id, tenant_id, csrf_secret, created_at, last_seen_at, expires_at)
SELECT sha256(('tenant-' || t.n)::bytea), u.id, t.tenant_id, '\x00', now(), now(), now() + interval '10 days'
FROM generated_tenants t CROSS JOIN users u WHERE t.n IN (1, 5000)
--------
VACUUM ANALYZE
