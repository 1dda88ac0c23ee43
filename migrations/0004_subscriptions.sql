-- A tenant's application on a plan version.

CREATE TABLE subscriptions (
    tenant_id        uuid NOT NULL REFERENCES tenants (id),
    id               uuid NOT NULL,
    application_id   uuid NOT NULL,
    plan_version_id  uuid NOT NULL REFERENCES plan_versions (id),
    state            text NOT NULL CHECK (state IN ('active', 'paused', 'payment_overdue', 'canceled')),
    -- Periods are counted from this date at midnight in this zone.
    anchor_date      date NOT NULL,
    time_zone        text NOT NULL,
    started_at       timestamptz NOT NULL,
    canceled_at      timestamptz,
    -- The start of the first period that has not been closed into an invoice yet.
    open_from        timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, application_id) REFERENCES applications (tenant_id, id)
);
CREATE INDEX subscriptions_application_idx ON subscriptions (tenant_id, application_id);
CREATE INDEX subscriptions_plan_version_idx ON subscriptions (plan_version_id);

-- At most one live subscription of an application covers a product (and with it, a route). The row is removed when the subscription is canceled.
CREATE TABLE subscription_products (
    tenant_id        uuid NOT NULL,
    application_id   uuid NOT NULL,
    product_id       uuid NOT NULL REFERENCES api_products (id),
    subscription_id  uuid NOT NULL,
    PRIMARY KEY (tenant_id, application_id, product_id),
    FOREIGN KEY (tenant_id, subscription_id) REFERENCES subscriptions (tenant_id, id)
);
