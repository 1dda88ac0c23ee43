-- What was answered, recorded and billed, compared without end (SEMANTICS M7).

-- What gateways say of their own journals: the other side of the comparison with what was accepted. The last report of each stream.
CREATE TABLE gateway_streams (
    journal_id     uuid NOT NULL REFERENCES gateway_journals (journal_id),
    stream         integer NOT NULL,
    -- [gateway_control::status::StreamReport].
    first_receipt  bigint NOT NULL,
    next_receipt   bigint NOT NULL,
    finished       bigint NOT NULL,
    open           bigint NOT NULL,
    broken         bigint NOT NULL,
    is_exact       boolean NOT NULL,
    next_seq       bigint NOT NULL,
    pending        int8multirange NOT NULL,
    reported_at    timestamptz NOT NULL,
    -- Since when the counts stand still and nothing waits to be sent; null while they move.
    steady_since   timestamptz,
    -- By the comparison: the numbers of earlier runs without a record, which are the calls that broke, and the first of them by name.
    broken_before   numeric NOT NULL DEFAULT 0,
    broken_numbers  text,
    -- Numbers that were skipped in one go, after a loss of power: nobody took them.
    skipped         numeric NOT NULL DEFAULT 0,
    compared_at     timestamptz,
    PRIMARY KEY (journal_id, stream)
);

-- Segments that gateways told of, for a month: what each holds, by which a lost one is named.
CREATE TABLE gateway_segments (
    journal_id      uuid NOT NULL REFERENCES gateway_journals (journal_id),
    stream          integer NOT NULL,
    seq             bigint NOT NULL,
    records         bigint NOT NULL,
    first_receipt   bigint,
    next_receipt    bigint NOT NULL,
    finals          bigint,
    -- The first ranges of the receipt numbers that ended in it.
    final_receipts  int8multirange NOT NULL,
    -- When the gateway first said that the portal had answered for it.
    acked_at        timestamptz,
    told_at         timestamptz NOT NULL,
    PRIMARY KEY (journal_id, stream, seq)
);
CREATE INDEX gateway_segments_told_at_idx ON gateway_segments (told_at);

-- Rows of the segments of a stretch of time are found by when they were accepted. Rows are appended, so that their blocks are in that order.
CREATE INDEX usage_segments_accepted_at_idx ON usage_segments (accepted_at);
CREATE INDEX usage_rows_accepted_at_idx ON usage_rows USING brin (accepted_at) WITH (autosummarize = on);

-- What did not agree. A difference that is not found again where it was is resolved, and stays for three months.
CREATE TABLE reconciliation_differences (
    id               uuid PRIMARY KEY,
    kind             text NOT NULL,
    -- What was looked at together: looking again finds all differences of the scope, or resolves them.
    scope            text NOT NULL,
    -- Where in the scope, if it is looked at in stretches of time.
    at               timestamptz,
    -- The same difference has the same subject at each look.
    subject          text NOT NULL,
    namespace_id     uuid,
    subscription_id  uuid,
    invoice_id       uuid,
    journal_id       uuid,
    stream           integer,
    seq              bigint,
    expected         numeric NOT NULL,
    found            numeric NOT NULL,
    -- A sentence for operators.
    detail           text NOT NULL,
    first_seen_at    timestamptz NOT NULL,
    last_seen_at     timestamptz NOT NULL,
    resolved_at      timestamptz
);
CREATE UNIQUE INDEX reconciliation_differences_open_key ON reconciliation_differences (scope, kind, subject) WHERE resolved_at IS NULL;
CREATE INDEX reconciliation_differences_subscription_idx ON reconciliation_differences (namespace_id, subscription_id);

-- One row. Where the comparison stands.
CREATE TABLE reconciliation_state (
    singleton         boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    -- Where the present sweep goes on; null before its start.
    cursor            jsonb,
    sweep_started_at  timestamptz,
    -- All usage rows that were accepted before have been looked at soon after they came.
    recent_through    timestamptz,
    passed_at         timestamptz,
    -- The last sweep that came to its end: all that had been there at its start has been compared.
    full_started_at   timestamptz,
    full_finished_at  timestamptz,
    created_at        timestamptz NOT NULL DEFAULT now()
);
INSERT INTO reconciliation_state DEFAULT VALUES;
