-- Periods turned into invoices.

CREATE TABLE invoices (
    tenant_id        uuid NOT NULL REFERENCES tenants (id),
    id               uuid NOT NULL,
    -- Gapless per issuer, given when the invoice is finalized.
    number           bigint UNIQUE,
    subscription_id  uuid NOT NULL,
    plan_version_id  uuid NOT NULL REFERENCES plan_versions (id),
    period_from      timestamptz NOT NULL,
    period_to        timestamptz NOT NULL,
    state            text NOT NULL CHECK (state IN ('draft', 'finalized', 'paid', 'past_due', 'uncollectible', 'void')),
    currency         text NOT NULL,
    subtotal         numeric NOT NULL,
    tax              numeric NOT NULL,
    total            numeric NOT NULL,
    created_at       timestamptz NOT NULL,
    finalized_at     timestamptz,
    due_at           timestamptz,
    paid_at          timestamptz,
    -- How an invoice without a payment provider was paid: the operator's note.
    paid_reference   text,
    PRIMARY KEY (tenant_id, id),
    -- A period is closed once.
    UNIQUE (tenant_id, subscription_id, period_from),
    FOREIGN KEY (tenant_id, subscription_id) REFERENCES subscriptions (tenant_id, id)
);
CREATE INDEX invoices_state_idx ON invoices (state, period_to);

-- `detail` is [rating::DetailedLine]: formula, tier steps, quantity and what it was rounded from.
CREATE TABLE invoice_lines (
    tenant_id     uuid NOT NULL,
    invoice_id    uuid NOT NULL,
    position      integer NOT NULL,
    description   text NOT NULL,
    rate_card_id  uuid REFERENCES rate_cards (id),
    meter_id      uuid REFERENCES meters (id),
    amount        numeric NOT NULL,
    detail        jsonb NOT NULL,
    PRIMARY KEY (tenant_id, invoice_id, position),
    FOREIGN KEY (tenant_id, invoice_id) REFERENCES invoices (tenant_id, id)
);

CREATE TABLE invoice_numbers (
    singleton   boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    next  bigint NOT NULL
);
INSERT INTO invoice_numbers (next) VALUES (1);
