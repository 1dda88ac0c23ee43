-- Leases that are declared: by run, with what may come back, what earlier runs left, recalls, write-offs, grants of operators, and counting again after a
-- restore.

-- All but `earlier` is counted since the start of the gateway's present run.
ALTER TABLE quota_leases
    ADD COLUMN run       bigint NOT NULL DEFAULT 0,
    ADD COLUMN exposed   numeric NOT NULL DEFAULT 0,
    ADD COLUMN finished  numeric NOT NULL DEFAULT 0,
    ADD COLUMN earlier   numeric NOT NULL DEFAULT 0;

ALTER TABLE quota_ledger ADD COLUMN recalled_at timestamptz;

-- The run that made the last exchange, and where each stream of its journal began then, as `[[stream, seq]]`.
ALTER TABLE quota_exchanges
    ADD COLUMN run         bigint NOT NULL DEFAULT 0,
    ADD COLUMN first_seqs  jsonb NOT NULL DEFAULT '[]';

-- What operators decided about quotas: leases that are written off, and units that are granted on top of the limit (a reset is a grant of what was used).
CREATE TABLE quota_decisions (
    namespace_id     uuid NOT NULL,
    subscription_id  uuid NOT NULL,
    meter_id         uuid NOT NULL,
    period_start     timestamptz NOT NULL,
    id               uuid NOT NULL,
    kind             text NOT NULL CHECK (kind IN ('write_off', 'grant')),
    journal_id       uuid,
    units            numeric NOT NULL,
    reason           text NOT NULL,
    actor            text NOT NULL,
    decided_at       timestamptz NOT NULL,
    PRIMARY KEY (namespace_id, subscription_id, meter_id, period_start, id)
);

-- Journals that must declare their leases before a restored ledger grants again.
CREATE TABLE quota_recounts (
    journal_id  uuid PRIMARY KEY,
    declared    boolean NOT NULL DEFAULT false
);

ALTER TABLE ledger_state ADD COLUMN restored_at timestamptz;

-- Minting a new epoch is all that an operator does after a restore. Every journal that was heard of in the last day before the backup may hold leases that
-- the backup does not know; one whose gateway was revoked cannot speak any more.
CREATE FUNCTION begin_recount() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.restored_at := clock_timestamp();
    DELETE FROM quota_recounts;
    INSERT INTO quota_recounts (journal_id)
    SELECT j.journal_id FROM gateway_journals j JOIN gateways g ON g.id = j.gateway_id
    WHERE g.revoked_at IS NULL
      AND coalesce(j.last_seen_at, j.bound_at) >= (SELECT max(coalesce(last_seen_at, bound_at)) FROM gateway_journals) - interval '1 day';
    RETURN NEW;
END $$;
CREATE TRIGGER ledger_epoch_changed BEFORE UPDATE OF epoch ON ledger_state
    FOR EACH ROW WHEN (NEW.epoch IS DISTINCT FROM OLD.epoch) EXECUTE FUNCTION begin_recount();
