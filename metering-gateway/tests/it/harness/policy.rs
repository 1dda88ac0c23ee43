//! What the mock portal tells: one product with its routes, a plan, a subscription and two keys. Tests change it before and after the start.

use std::net::SocketAddr;

use calendar::Cadence;
use gateway_control::{
    credential::{Credential, CredentialKind},
    policy::{
        ApiKey, BillableRule, EntryBody, EntryId, EntryKind, Generation, PlanVersion, PolicyEntry, Route, RouteMeter, Service, Settings,
        Subscription, SubscriptionState, UnitSource,
    },
    units::Micros,
    usage::Mode,
};
use ids::{ApiKeyId, ApiProductId, ApplicationId, MeterId, NamespaceId, PlanVersionId, RouteId, ServiceId, SubscriptionId, Uuid};

use super::credential;

pub struct World {
    pub live: Credential,
    pub test: Credential,
    pub settings: Settings,
    pub service: Service,
    pub routes: Vec<Route>,
    pub plan: PlanVersion,
    pub subscription: Subscription,
    pub keys: Vec<ApiKey>,
    /// Counts calls.
    pub requests: MeterId,
    /// Counts what the upstream declares.
    pub tokens: MeterId,
    /// Counts messages of WebSockets.
    pub messages: MeterId,
}

pub const ORIGIN: &str = "https://portal.example";

impl World {
    pub fn new(upstream: SocketAddr) -> Self {
        let (product, namespace, application) = (ApiProductId::new(), NamespaceId::from_uuid(Uuid::now_v7()), ApplicationId::new());
        let (live, test) = (credential(CredentialKind::Live), credential(CredentialKind::Test));
        let service = Service {
            id: ServiceId::new(),
            name: "weather".into(),
            upstream: format!("http://{upstream}/base"),
            sandbox: None,
            connect_timeout_ms: 500,
            first_byte_timeout_ms: 1_000,
            options: None,
        };
        let plan = PlanVersion {
            id: PlanVersionId::new(),
            plan: "pro".into(),
            products: vec![product],
            rate_limits: Vec::new(),
            quotas: Vec::new(),
            cadence: Cadence::Month,
            billable: BillableRule::default(),
        };
        let subscription = Subscription {
            id: SubscriptionId::new(),
            namespace,
            application,
            plan_version: plan.id,
            state: SubscriptionState::Active,
            anchor_date: "2025-01-31".into(),
            time_zone: "Europe/Oslo".into(),
        };
        let key = |credential: &Credential, mode| ApiKey {
            id: ApiKeyId::new(),
            digest: credential.digest(),
            namespace,
            application,
            mode,
            expires_at: None,
        };
        let keys = vec![key(&live, Mode::Live), key(&test, Mode::Test)];
        let mut world = Self {
            live,
            test,
            settings: Settings { cors_origins: vec![ORIGIN.into()], upgrade_url: "https://portal.example/upgrade".into() },
            service,
            routes: Vec::new(),
            plan,
            subscription,
            keys,
            requests: MeterId::new(),
            tokens: MeterId::new(),
            messages: MeterId::new(),
        };
        world.add_routes(product);
        world
    }

    fn add_routes(&mut self, product: ApiProductId) {
        let (requests, tokens, messages) = (self.requests, self.tokens, self.messages);
        let call = move || meter(requests, UnitSource::Call, 1, 1);
        let token = move |source| vec![call(), meter(tokens, source, 7, 1_000)];
        let trailer = || UnitSource::Trailer { name: "x-units".into() };
        for (method, path, meters) in [
            (Some("GET"), "/weather/v1/echo", vec![call()]),
            (Some("POST"), "/weather/v1/echo", vec![call()]),
            (Some("GET"), "/weather/v1/echo/{city}", vec![call()]),
            (Some("GET"), "/weather/v1/status/{code}", vec![call()]),
            (Some("GET"), "/weather/v1/slow", vec![call()]),
            (Some("GET"), "/weather/v1/stream", token(trailer())),
            (Some("GET"), "/weather/v1/broken", token(trailer())),
            (Some("GET"), "/weather/v1/flood", vec![call()]),
            (Some("GET"), "/weather/v1/units/{units}", token(UnitSource::Header { name: "x-units".into() })),
            (Some("GET"), "/weather/v1/ws", vec![meter(messages, UnitSource::Messages, 0, 1_000)]),
            (None, "/weather/v1/any/{*rest}", Vec::new()),
        ] {
            self.routes.push(Route {
                id: RouteId::new(),
                product,
                product_slug: "weather".into(),
                service: self.service.id,
                method: method.map(str::to_owned),
                path: path.into(),
                strip_prefix: "/weather".into(),
                group: None,
                meters,
                options: None,
            });
        }
    }

    pub fn entries(&self) -> Vec<PolicyEntry> {
        let mut bodies = vec![
            EntryBody::Settings(self.settings.clone()),
            EntryBody::Service(self.service.clone()),
            EntryBody::PlanVersion(self.plan.clone()),
            EntryBody::Subscription(self.subscription.clone()),
        ];
        bodies.extend(self.routes.iter().cloned().map(EntryBody::Route));
        bodies.extend(self.keys.iter().cloned().map(EntryBody::ApiKey));
        bodies.into_iter().map(entry).collect()
    }

    /// The route of a path.
    pub fn route(&mut self, path: &str) -> &mut Route {
        self.routes.iter_mut().find(|route| route.path == path).expect("a route of this path")
    }
}

/// An entry for a body, under a generation that the mock portal sets.
pub fn entry(body: EntryBody) -> PolicyEntry {
    let (kind, id) = match &body {
        EntryBody::Settings(_) => (EntryKind::Settings, Uuid::nil()),
        EntryBody::Service(service) => (EntryKind::Service, service.id.uuid()),
        EntryBody::Route(route) => (EntryKind::Route, route.id.uuid()),
        EntryBody::PlanVersion(plan) => (EntryKind::PlanVersion, plan.id.uuid()),
        EntryBody::Subscription(subscription) => (EntryKind::Subscription, subscription.id.uuid()),
        EntryBody::ApiKey(key) => (EntryKind::ApiKey, key.id.uuid()),
    };
    PolicyEntry { generation: Generation(0), id: EntryId { kind, id }, body: Some(body) }
}

fn meter(meter: MeterId, source: UnitSource, default: i64, max: i64) -> RouteMeter {
    RouteMeter { meter, source, default_units: Micros::units(default), max_units: Micros::units(max) }
}
