-- Work that outlives a request: mails, closing periods, partitions. Claimed with FOR UPDATE SKIP LOCKED.

CREATE TABLE jobs (
    id            uuid PRIMARY KEY,
    kind          text NOT NULL,
    payload       jsonb NOT NULL,
    -- At most one unfinished job of a kind has the same key.
    unique_key    text,
    run_at        timestamptz NOT NULL,
    attempts      integer NOT NULL DEFAULT 0,
    locked_until  timestamptz,
    last_error    text,
    finished_at   timestamptz,
    created_at    timestamptz NOT NULL
);
CREATE INDEX jobs_due_idx ON jobs (run_at) WHERE finished_at IS NULL;
CREATE UNIQUE INDEX jobs_unique_key ON jobs (kind, unique_key) WHERE finished_at IS NULL AND unique_key IS NOT NULL;

-- Mails that the portal sends. The development mailbox shows them; elsewhere they go out by SMTP. Bodies are removed after 30 days.
CREATE TABLE mails (
    id          uuid PRIMARY KEY,
    recipient   text NOT NULL,
    subject     text NOT NULL,
    text        text NOT NULL,
    html        text NOT NULL,
    created_at  timestamptz NOT NULL,
    sent_at     timestamptz
);
CREATE INDEX mails_created_at_idx ON mails (created_at DESC);
