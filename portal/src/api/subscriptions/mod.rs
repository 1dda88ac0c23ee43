//! `/api/v1/subscriptions`.

use portal_api::SubscriptionState;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    app::App,
    subscriptions::{State, Subscription},
};

mod cancel;
mod change;
mod create;
mod get;
mod list;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list::list_subscriptions, create::create_subscription))
        .routes(routes!(get::get_subscription, cancel::cancel_subscription))
        .routes(routes!(change::change_subscription))
}

fn shown(subscription: Subscription) -> portal_api::Subscription {
    portal_api::Subscription {
        id: subscription.id,
        application: subscription.application,
        plan: subscription.plan_slug,
        plan_version: subscription.plan_version,
        state: match subscription.state {
            State::Active => SubscriptionState::Active,
            State::Paused => SubscriptionState::Paused,
            State::PaymentOverdue => SubscriptionState::PaymentOverdue,
            State::Canceled => SubscriptionState::Canceled,
        },
        anchor_date: subscription.anchor.date.to_string(),
        time_zone: subscription.anchor.zone.name().to_owned(),
        started_at: subscription.started_at,
        canceled_at: subscription.canceled_at,
    }
}
