-- Corrections of usage, and what late usage and corrections of closed periods become (SEMANTICS M10, M11).

-- Units that an operator added to, or took from, what was metered. Appended only: a correction is corrected by another one.
CREATE TABLE usage_corrections (
    namespace_id     uuid NOT NULL REFERENCES tenants (id),
    id               uuid NOT NULL,
    subscription_id  uuid NOT NULL,
    plan_version_id  uuid NOT NULL REFERENCES plan_versions (id),
    period_start     timestamptz NOT NULL,
    meter_id         uuid NOT NULL REFERENCES meters (id),
    units            numeric NOT NULL CHECK (units <> 0),
    reason           text NOT NULL CHECK (char_length(reason) BETWEEN 1 AND 500),
    -- What it goes back to: a ticket, a mail.
    reference        text NOT NULL CHECK (char_length(reference) BETWEEN 1 AND 200),
    -- Who: `user`, `api_token` or `system`, as in the audit log.
    actor_kind       text NOT NULL,
    actor_id         uuid,
    -- The same key makes the same correction once.
    idempotency_key  text NOT NULL CHECK (char_length(idempotency_key) BETWEEN 1 AND 100),
    -- What it did to the period's cost, as it was previewed and confirmed.
    outcome          text NOT NULL CHECK (outcome IN ('open_period', 'next_invoice', 'final_invoice', 'credit_note', 'no_charge')),
    currency         text NOT NULL,
    cost_before      numeric NOT NULL,
    cost_after       numeric NOT NULL,
    credit_note_id   uuid,
    created_at       timestamptz NOT NULL,
    PRIMARY KEY (namespace_id, id),
    UNIQUE (namespace_id, idempotency_key),
    FOREIGN KEY (namespace_id, subscription_id) REFERENCES subscriptions (tenant_id, id)
);
CREATE INDEX usage_corrections_period_idx ON usage_corrections (namespace_id, subscription_id, period_start);
CREATE INDEX usage_corrections_created_at_idx ON usage_corrections (created_at);

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is appended to and never changed', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER usage_corrections_are_kept BEFORE UPDATE OR DELETE ON usage_corrections FOR EACH ROW EXECUTE FUNCTION refuse_change();

-- Nothing wrote it: corrections stand in a table of their own, where each has its actor, reason and reference.
ALTER TABLE usage_rows DROP COLUMN correction_id;

-- What an invoice is: that of a period; after a cancellation, of what came late; or a credit note, with a negative total.
ALTER TABLE invoices
    ADD COLUMN kind      text NOT NULL DEFAULT 'period' CHECK (kind IN ('period', 'final', 'credit_note')),
    -- The invoice that a credit note corrects.
    ADD COLUMN corrects  uuid;
ALTER TABLE invoices DROP CONSTRAINT invoices_tenant_id_subscription_id_period_from_key;
CREATE UNIQUE INDEX invoices_period_key ON invoices (tenant_id, subscription_id, period_from) WHERE kind = 'period';

-- The period that a line is about, where that is an earlier one than its invoice's.
ALTER TABLE invoice_lines
    ADD COLUMN service_from  timestamptz,
    ADD COLUMN service_to    timestamptz;
