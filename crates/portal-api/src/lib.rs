//! The types of the portal's REST API, and behind the feature `client` a typed client.
//!
//! The server answers with these types and the client reads them, so they cannot drift apart. Unknown fields in answers are ignored, unknown
//! fields in requests are refused.

mod api_key;
mod api_token;
mod application;
mod catalog;
mod common;
mod correction;
mod gateway;
mod invitation;
mod invoice;
mod plan;
mod reconciliation;
mod route;
mod subscription;
mod usage;

#[cfg(feature = "client")]
mod client;

pub use api_key::{ApiKey, CreateKey, CreatedKey, KeyMode, KeyStatus, RotateKey};
pub use api_token::{ApiToken, CreateToken, CreatedToken};
pub use application::{Application, CreateApplication};
pub use catalog::{ApiProduct, CreateMeter, ImportQuery, ImportReport, Meter, MeterAggregation};
#[cfg(feature = "client")]
pub use client::{Client, ClientError};
pub use common::{FieldProblem, List, PageQuery, Problem};
pub use correction::{CorrectUsage, Correction, CorrectionEffect, CorrectionOutcome, CorrectionQuery};
pub use gateway::{
    CreateGateway, Gateway, GatewayInstance, GrantQuota, IssuedGateway, JournalLeases, RotateGateway, WriteOffLeases, WrittenOffLeases,
};
pub use invitation::{CreateInvitation, Invitation, MemberRole};
pub use invoice::{EndInvoice, Invoice, InvoiceKind, InvoiceLine, InvoiceQuery, InvoiceState, MarkPaid};
pub use plan::{
    CreatePlan, CreatePlanVersion, CreateQuota, CreateRateCard, CreateRateLimit, Plan, PlanPrice, PlanQuota, PlanRateLimit, PlanSummary,
};
pub use reconciliation::{
    Difference, DifferenceKind, MeterAccount, Reconciliation, ReconciliationQuery, StreamAccount, SubscriptionReconciliation,
};
pub use route::{
    Cors, CreateProduct, CreateRoute, HeaderEdits, HeaderField, Route, RouteMatch, RouteMeter, RouteOptions, RouteSettings, RouteTimeouts,
    Service, ServiceSettings, TokenKind, UnitSource, UpstreamProtocol, ValueMatch,
};
pub use subscription::{ChangeSubscription, CreateSubscription, Subscription, SubscriptionQuery, SubscriptionState};
pub use usage::{Cost, CostLine, Usage, UsageBy, UsageGroup, UsageMeter, UsageQuery, UsageSlot};
