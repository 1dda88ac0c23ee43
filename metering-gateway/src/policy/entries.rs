//! Policy entries compiled to what the stages of the pipeline read: parsed once here, so that nothing is parsed while a call waits.

use std::{collections::HashSet, time::Duration};

use calendar::{Anchor, Cadence, Period, Timestamp};
use gateway_control::{
    credential::KeyDigest,
    path::PathTemplate,
    policy::{self, BillableRule, RouteMeter, SubscriptionState, TokenKind, UnitSource},
    usage::Mode,
};
use http::{HeaderName, Method};
use ids::{ApiKeyId, ApiProductId, ApplicationId, MeterId, NamespaceId, PlanVersionId, RouteId, ServiceId, SubscriptionId};
use quota::{QuotaLimit, RateLimit};

use super::{
    options::{CompiledCors, CompiledOptions, Rewrite},
    services::Upstream,
};
use crate::upstream::Patience;

/// Why an entry cannot be used; a sentence for operators.
pub type Reason = String;

/// A match rule.
#[derive(Debug, PartialEq, Eq)]
pub struct CompiledRoute {
    /// Its id.
    pub id: RouteId,
    /// The API product that it belongs to.
    pub product: ApiProductId,
    /// The backend.
    pub service: ServiceId,
    /// `None` for all methods.
    pub method: Option<Method>,
    /// What it matches.
    pub template: PathTemplate,
    /// What is taken off the path.
    pub strip_prefix: String,
    /// The group that rate limits may name.
    pub group: Option<String>,
    /// What a call is measured by.
    pub meters: Vec<CompiledMeter>,
    /// Whether units come in a trailer, which the upstream must then be asked for.
    pub wants_trailers: bool,
    /// Whether units stand in the answer's body, which must then come uncompressed.
    pub reads_tokens: bool,
    /// A meter looks at the head of the answer.
    pub reads_head: bool,
    /// What most routes need not say.
    pub options: Option<Box<CompiledOptions>>,
}

/// How a call moves a meter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompiledMeter {
    /// The meter.
    pub meter: MeterId,
    /// Where the units come from.
    pub source: Source,
    /// Micro-units when the source is missing or malformed.
    pub default_micros: i64,
    /// More is clamped to this; what is reserved at admission.
    pub max_micros: i64,
}

/// Where units come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// One a call.
    Call,
    /// A header of the answer.
    Header(HeaderName),
    /// A trailer of the answer, or a header of that name.
    Trailer(HeaderName),
    /// Bytes of the answer's body.
    ResponseBytes,
    /// Messages of a WebSocket or of a gRPC call.
    Messages,
    /// Seconds that the exchange lasted.
    Seconds,
    /// Tokens that the answer's body says were used.
    Tokens(TokenKind),
}

impl CompiledRoute {
    /// Parses a route.
    ///
    /// # Errors
    /// When a part of it makes no sense.
    pub fn compile(route: &policy::Route) -> Result<Self, Reason> {
        let template: PathTemplate = route.path.parse().map_err(|error| format!("path `{}` {error}", route.path))?;
        let method =
            route.method.as_deref().map(|method| method.parse().map_err(|_| format!("method `{method}` is no HTTP method"))).transpose()?;
        if !route.strip_prefix.is_empty() && (!route.path.starts_with(&route.strip_prefix) || route.strip_prefix.contains('{')) {
            return Err(format!("strip_prefix `{}` is not a literal prefix of the path `{}`", route.strip_prefix, route.path));
        }
        if route.meters.len() > journal::MAX_METERS {
            return Err(format!("{} meters are more than the {} that a record holds", route.meters.len(), journal::MAX_METERS));
        }
        let meters: Vec<_> = route.meters.iter().map(CompiledMeter::compile).collect::<Result<_, _>>()?;
        let wants_trailers = meters.iter().any(|meter| matches!(meter.source, Source::Trailer(_)));
        let reads_tokens = meters.iter().any(|meter| matches!(meter.source, Source::Tokens(_)));
        let reads_head = wants_trailers || reads_tokens || meters.iter().any(|meter| matches!(meter.source, Source::Header(_)));
        let options = route.options.as_deref().map(|options| CompiledOptions::compile(options, &template).map(Box::new)).transpose()?;
        Ok(Self {
            id: route.id,
            product: route.product,
            service: route.service,
            method,
            template,
            strip_prefix: crate::pipeline::path::normalize_segment(route.strip_prefix.trim_end_matches('/')),
            group: route.group.clone(),
            meters,
            wants_trailers,
            reads_tokens,
            reads_head,
            options,
        })
    }

    /// The path and query for the upstream; `path` has been normalized and matches the route.
    pub fn target(&self, base: &str, path: &str, query: Option<&str>) -> String {
        match self.rewrite() {
            Some(rewrite) => rewrite.apply(base, path, query),
            None => crate::pipeline::path::rewrite(base, &self.strip_prefix, path, query),
        }
    }

    /// What was taken off the path; nothing where the path is written anew.
    pub fn prefix(&self) -> &str {
        if self.rewrite().is_some() { "" } else { &self.strip_prefix }
    }

    fn rewrite(&self) -> Option<&Rewrite> {
        self.options.as_ref()?.rewrite.as_ref()
    }

    /// The largest body of a request, in bytes; `default` where the route says nothing.
    pub fn max_request_body_bytes(&self, default: u64) -> u64 {
        self.options.as_ref().and_then(|options| options.max_request_body_bytes).unwrap_or(default)
    }

    /// How old a policy may be by which its calls are judged; `default` where the route says nothing.
    pub fn max_policy_age(&self, default: Duration) -> Duration {
        self.options.as_ref().and_then(|options| options.max_policy_age).unwrap_or(default)
    }

    /// How long its calls wait for an upstream.
    pub fn patience(&self, upstream: &Upstream) -> Patience {
        let said = |read: fn(&CompiledOptions) -> Option<Duration>| self.options.as_deref().and_then(read);
        Patience {
            connect: said(|options| options.connect_timeout).unwrap_or(upstream.connect_timeout),
            first_byte: said(|options| options.first_byte_timeout).unwrap_or(upstream.first_byte_timeout),
        }
    }

    /// How long nothing may pass on its calls; `default` where the route says nothing.
    pub fn idle_timeout(&self, default: Duration) -> Duration {
        self.options.as_ref().and_then(|options| options.idle_timeout).unwrap_or(default)
    }

    /// How long a call may take, where the route says so.
    pub fn total_timeout(&self) -> Option<Duration> {
        self.options.as_ref()?.total_timeout
    }

    /// Which browser origins may call, where the route says so.
    pub fn cors(&self) -> Option<&CompiledCors> {
        self.options.as_ref()?.cors.as_ref()
    }
}

impl CompiledMeter {
    fn compile(meter: &RouteMeter) -> Result<Self, Reason> {
        let header = |name: &str| name.parse::<HeaderName>().map_err(|_| format!("`{name}` is no header name"));
        let source = match &meter.source {
            UnitSource::Call => Source::Call,
            UnitSource::Header { name } => Source::Header(header(name)?),
            UnitSource::Trailer { name } => Source::Trailer(header(name)?),
            UnitSource::ResponseBytes => Source::ResponseBytes,
            UnitSource::Messages => Source::Messages,
            UnitSource::Seconds => Source::Seconds,
            UnitSource::Tokens { kind } => Source::Tokens(*kind),
        };
        let (default_micros, max_micros) = (meter.default_units.clamped(), meter.max_units.clamped());
        if default_micros < 0 || max_micros < default_micros {
            return Err(format!(
                "units of {}: 0 <= default_units ({}) <= max_units ({})",
                meter.meter, meter.default_units, meter.max_units
            ));
        }
        Ok(Self { meter: meter.meter, source, default_micros, max_micros })
    }
}

/// What a plan version allows.
#[derive(Debug, PartialEq, Eq)]
pub struct CompiledPlan {
    /// Its id.
    pub id: PlanVersionId,
    /// The plan's slug.
    pub plan: String,
    /// The API products that it covers.
    pub products: HashSet<ApiProductId>,
    /// How fast.
    pub rate_limits: Vec<RateLimit>,
    /// What each of them is called in the `RateLimit` fields.
    pub rate_limit_names: Vec<String>,
    /// How much per period.
    pub quotas: Vec<QuotaLimit>,
    /// What each of them is called there: `quota`, or with the meter's id where there are several.
    pub quota_names: Vec<String>,
    /// How long a quota period lasts.
    pub cadence: Cadence,
    /// Which answers count.
    pub billable: BillableRule,
}

impl CompiledPlan {
    /// Checks a plan version's limits.
    ///
    /// # Errors
    /// When a limit makes no sense.
    pub fn compile(plan: &policy::PlanVersion) -> Result<Self, Reason> {
        plan.rate_limits.iter().try_for_each(|limit| limit.validate().map_err(|error| format!("rate limit: {error}")))?;
        plan.quotas.iter().try_for_each(|limit| limit.validate().map_err(|error| format!("quota: {error}")))?;
        let rate_limit_name = |limit: &RateLimit| match &limit.route_group {
            Some(group) => format!("{}:{group}", limit.scope.as_str()),
            None => limit.scope.as_str().to_owned(),
        };
        let quota_name = |limit: &QuotaLimit| if plan.quotas.len() == 1 { "quota".to_owned() } else { format!("quota:{}", limit.meter) };
        Ok(Self {
            id: plan.id,
            plan: plan.plan.clone(),
            products: plan.products.iter().copied().collect(),
            rate_limits: plan.rate_limits.clone(),
            rate_limit_names: plan.rate_limits.iter().map(rate_limit_name).collect(),
            quotas: plan.quotas.clone(),
            quota_names: plan.quotas.iter().map(quota_name).collect(),
            cadence: plan.cadence,
            billable: plan.billable.clone(),
        })
    }
}

/// Who is on which plan version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompiledSubscription {
    /// Its id.
    pub id: SubscriptionId,
    /// The tenant's namespace.
    pub namespace: NamespaceId,
    /// The application whose keys it covers.
    pub application: ApplicationId,
    /// What it is on.
    pub plan_version: PlanVersionId,
    /// Whether it lets calls through.
    pub state: SubscriptionState,
    anchor: Anchor,
}

impl CompiledSubscription {
    /// Parses a subscription.
    ///
    /// # Errors
    /// When its date or zone cannot be read.
    pub fn compile(subscription: &policy::Subscription) -> Result<Self, Reason> {
        let date = subscription.anchor_date.parse().map_err(|_| format!("anchor_date `{}` is no date", subscription.anchor_date))?;
        let zone = subscription.time_zone.parse().map_err(|error| format!("time_zone: {error}"))?;
        Ok(Self {
            id: subscription.id,
            namespace: subscription.namespace,
            application: subscription.application,
            plan_version: subscription.plan_version,
            state: subscription.state,
            anchor: Anchor { date, zone },
        })
    }

    /// What it was parsed from.
    pub fn source(&self) -> policy::Subscription {
        policy::Subscription {
            id: self.id,
            namespace: self.namespace,
            application: self.application,
            plan_version: self.plan_version,
            state: self.state,
            anchor_date: self.anchor.date.to_string(),
            time_zone: self.anchor.zone.name().to_owned(),
        }
    }

    /// The quota period that holds an instant. Costs a time zone look-up; callers keep the answer.
    pub fn period_at(&self, cadence: Cadence, at: Timestamp) -> Period {
        self.anchor.period_at(cadence, at)
    }
}

/// A credential of an application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompiledKey {
    /// SHA-256 of its text.
    pub digest: KeyDigest,
    /// Its id.
    pub id: ApiKeyId,
    /// The tenant's namespace.
    pub namespace: NamespaceId,
    /// The application.
    pub application: ApplicationId,
    /// Live or test.
    pub mode: Mode,
    /// When it stops working.
    pub expires_at: Option<Timestamp>,
}

impl CompiledKey {
    /// Takes what the pipeline needs of a key.
    pub fn compile(key: &policy::ApiKey) -> Self {
        let policy::ApiKey { digest, id, namespace, application, mode, expires_at } = *key;
        Self { digest, id, namespace, application, mode, expires_at }
    }

    /// Whether it has stopped working.
    pub fn expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }
}
