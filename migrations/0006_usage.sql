-- Accepted usage: append-only rows, the proof of what was taken, and sums for pages and invoices.

-- One row. Minted anew when a database is restored: gateways then offer again all that they retain.
CREATE TABLE ledger_state (
    singleton   boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    epoch  uuid NOT NULL
);
INSERT INTO ledger_state (epoch) VALUES (gen_random_uuid());

-- The contiguous high-water mark of each stream; what lies beyond it stands in `usage_segments`.
CREATE TABLE usage_streams (
    journal_id        uuid NOT NULL REFERENCES gateway_journals (journal_id),
    stream            integer NOT NULL,
    accepted_through  bigint NOT NULL DEFAULT -1,
    next_receipt      bigint NOT NULL DEFAULT 0,
    recorded          bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (journal_id, stream)
);

-- The proof that a segment was taken, written in the transaction that took it.
CREATE TABLE usage_segments (
    journal_id      uuid NOT NULL,
    stream          integer NOT NULL,
    seq             bigint NOT NULL,
    segment_digest  bytea NOT NULL,
    prev_digest     bytea NOT NULL,
    fold_version    integer NOT NULL,
    records         bigint NOT NULL,
    rows            integer NOT NULL,
    next_receipt    bigint NOT NULL,
    final_receipts  jsonb NOT NULL,
    accepted_at     timestamptz NOT NULL,
    PRIMARY KEY (journal_id, stream, seq)
);

-- One row a key of a fold (SEMANTICS M5). Quantities are in units. Rows are never changed; a correction is a new row with `correction_id`.
CREATE TABLE usage_rows (
    namespace_id     uuid NOT NULL,
    subscription_id  uuid NOT NULL,
    plan_version_id  uuid NOT NULL,
    period_start     timestamptz NOT NULL,
    application_id   uuid NOT NULL,
    api_key_id       uuid NOT NULL,
    route_id         uuid NOT NULL,
    meter_id         uuid NOT NULL,
    dimensions       jsonb,
    status           smallint NOT NULL,
    answered_by      text NOT NULL CHECK (answered_by IN ('upstream', 'gateway')),
    mode             text NOT NULL CHECK (mode IN ('live', 'test')),
    minute           timestamptz NOT NULL,
    count            bigint NOT NULL,
    incomplete       bigint NOT NULL,
    sum              numeric NOT NULL,
    min              numeric NOT NULL,
    max              numeric NOT NULL,
    last             numeric NOT NULL,
    last_at          timestamptz NOT NULL,
    uniques          bigint[],
    journal_id       uuid NOT NULL,
    stream           integer NOT NULL,
    seq              bigint NOT NULL,
    correction_id    uuid,
    accepted_at      timestamptz NOT NULL
) PARTITION BY RANGE (minute);
CREATE INDEX usage_rows_subscription_idx ON usage_rows (namespace_id, subscription_id, minute);
-- Catches what no monthly partition takes, so that usage with an odd clock is never lost.
CREATE TABLE usage_rows_default PARTITION OF usage_rows DEFAULT;

CREATE TABLE usage_latency (
    namespace_id     uuid NOT NULL,
    subscription_id  uuid NOT NULL,
    route_id         uuid NOT NULL,
    minute           timestamptz NOT NULL,
    histogram        jsonb NOT NULL,
    journal_id       uuid NOT NULL,
    stream           integer NOT NULL,
    seq              bigint NOT NULL
) PARTITION BY RANGE (minute);
CREATE INDEX usage_latency_subscription_idx ON usage_latency (namespace_id, subscription_id, minute);
CREATE TABLE usage_latency_default PARTITION OF usage_latency DEFAULT;

-- Sums per 15 minutes. `billable` says whether the plan version's rule bills the row's status, answerer and mode.
CREATE TABLE usage_rollup_15m (
    namespace_id     uuid NOT NULL,
    subscription_id  uuid NOT NULL,
    plan_version_id  uuid NOT NULL,
    period_start     timestamptz NOT NULL,
    bucket           timestamptz NOT NULL,
    application_id   uuid NOT NULL,
    api_key_id       uuid NOT NULL,
    route_id         uuid NOT NULL,
    meter_id         uuid NOT NULL,
    status           smallint NOT NULL,
    mode             text NOT NULL,
    billable         boolean NOT NULL,
    count            bigint NOT NULL,
    sum              numeric NOT NULL,
    min              numeric NOT NULL,
    max              numeric NOT NULL,
    last             numeric NOT NULL,
    last_at          timestamptz NOT NULL,
    PRIMARY KEY (namespace_id, subscription_id, bucket, meter_id, route_id, api_key_id, status, mode, billable, plan_version_id, period_start, application_id)
);

-- The same per UTC day.
CREATE TABLE usage_rollup_day (LIKE usage_rollup_15m INCLUDING ALL);

-- Usage whose ids the portal does not know: accepted, alerted, never lost.
CREATE TABLE usage_unattributed (
    journal_id   uuid NOT NULL,
    stream       integer NOT NULL,
    seq          bigint NOT NULL,
    row          jsonb NOT NULL,
    reason       text NOT NULL,
    accepted_at  timestamptz NOT NULL
);
CREATE INDEX usage_unattributed_accepted_at_idx ON usage_unattributed (accepted_at DESC);

-- The quota ledger. `used` moves only by ingest. What is free is limit - used - what journals hold unproven.
CREATE TABLE quota_ledger (
    namespace_id     uuid NOT NULL,
    subscription_id  uuid NOT NULL,
    meter_id         uuid NOT NULL,
    period_start     timestamptz NOT NULL,
    used             numeric NOT NULL DEFAULT 0,
    PRIMARY KEY (namespace_id, subscription_id, meter_id, period_start)
);

-- What each journal has been granted, has given back, and has proven by usage, cumulatively.
CREATE TABLE quota_leases (
    namespace_id     uuid NOT NULL,
    subscription_id  uuid NOT NULL,
    meter_id         uuid NOT NULL,
    period_start     timestamptz NOT NULL,
    journal_id       uuid NOT NULL,
    granted          numeric NOT NULL DEFAULT 0,
    given_back       numeric NOT NULL DEFAULT 0,
    proven           numeric NOT NULL DEFAULT 0,
    expires_at       timestamptz NOT NULL,
    PRIMARY KEY (namespace_id, subscription_id, meter_id, period_start, journal_id)
);

-- The last exchange of each journal and its answer, so that one which is sent again changes nothing.
CREATE TABLE quota_exchanges (
    journal_id  uuid PRIMARY KEY,
    exchange    bigint NOT NULL,
    answer      jsonb NOT NULL,
    at          timestamptz NOT NULL
);
