//! What the mock portal tells the gateway: one installation of a chosen size, the same for the same size.

use std::{convert::Infallible, net::SocketAddr};

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
use quota::{Enforcement, QuotaLimit, RateLimit, Scope, WhenUnreachable};
use sha2::{Digest as _, Sha256};

/// Keys of one application: a tenant with a few services of its own. Each application has a subscription and a namespace.
pub const KEYS_PER_APPLICATION: usize = 10;
/// The path that is called.
pub const PATH: &str = "/v1/forecast";
/// A limit that is checked on every call and denies none.
const UNITS: i64 = 1_000_000_000_000;

/// The size of an installation.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// API keys.
    pub keys: usize,
    /// Routes; one of them is called.
    pub routes: usize,
}

/// An installation.
#[derive(Debug, Clone, Copy)]
pub struct World {
    /// How large it is.
    pub size: Size,
    /// Where its one upstream listens.
    pub upstream: SocketAddr,
}

/// A number for each thing, spread over all bits as random ids are.
pub fn uuid(kind: &str, number: usize) -> Uuid {
    let digest = Sha256::digest(format!("{kind} {number}"));
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    uuid_v7(bytes, number)
}

/// Ids rise with time, as the portal makes them: 48 bits of milliseconds, then randomness.
fn uuid_v7(mut bytes: [u8; 16], number: usize) -> Uuid {
    let millis = 1_760_000_000_000_u64 + number as u64;
    bytes[..6].copy_from_slice(&millis.to_be_bytes()[2..]);
    bytes[6] = 0x70 | (bytes[6] & 0x0f);
    bytes[8] = 0x80 | (bytes[8] & 0x3f);
    Uuid::from_bytes(bytes)
}

/// The credential of a number.
pub fn credential(kind: CredentialKind, number: usize) -> Credential {
    let mut block = 0_u32;
    let random = |out: &mut [u8]| {
        for chunk in out.chunks_mut(32) {
            let digest = Sha256::digest(format!("{kind:?} {number} {block}"));
            chunk.copy_from_slice(&digest[..chunk.len()]);
            block += 1;
        }
        Ok::<_, Infallible>(())
    };
    let Ok(credential) = Credential::generate(kind, random);
    credential
}

impl World {
    /// The texts of all keys.
    pub fn keys(&self) -> impl Iterator<Item = String> + use<> {
        (0..self.size.keys).map(|number| credential(CredentialKind::Live, number).reveal().to_owned())
    }

    /// The meter that counts calls.
    pub fn meter() -> MeterId {
        MeterId::from_uuid(uuid("meter", 0))
    }

    /// All entries, in the order of their kinds.
    pub fn entries(&self) -> impl Iterator<Item = EntryBody> + Send + use<> {
        let world = *self;
        let applications = world.size.keys.div_ceil(KEYS_PER_APPLICATION);
        let head = [
            EntryBody::Settings(Settings { cors_origins: Vec::new(), upgrade_url: "https://portal.example/upgrade".into() }),
            EntryBody::Service(world.service()),
        ];
        head.into_iter()
            .chain((0..world.size.routes).map(move |number| EntryBody::Route(world.route(number))))
            .chain([EntryBody::PlanVersion(world.plan())])
            .chain((0..applications).map(|number| EntryBody::Subscription(Self::subscription(number))))
            .chain((0..world.size.keys).map(|number| EntryBody::ApiKey(Self::api_key(number))))
    }

    fn service(&self) -> Service {
        Service {
            id: ServiceId::from_uuid(uuid("service", 0)),
            name: "forecast".into(),
            upstream: format!("http://{}", self.upstream),
            sandbox: None,
            connect_timeout_ms: 5_000,
            first_byte_timeout_ms: 30_000,
            options: None,
        }
    }

    fn route(&self, number: usize) -> Route {
        let path = if number == 0 { PATH.to_owned() } else { format!("/v{}/areas/{{area}}/kind-{number}/{{item}}", number % 7) };
        Route {
            id: RouteId::from_uuid(uuid("route", number)),
            product: ApiProductId::from_uuid(uuid("product", 0)),
            product_slug: "forecast".into(),
            service: ServiceId::from_uuid(uuid("service", 0)),
            method: Some("GET".into()),
            path,
            strip_prefix: String::new(),
            group: None,
            meters: vec![RouteMeter {
                meter: Self::meter(),
                source: UnitSource::Call,
                default_units: Micros::units(1),
                max_units: Micros::units(1),
            }],
            options: None,
        }
    }

    /// A limit of each key and a hard quota of each subscription: both are checked and taken from on every call.
    fn plan(&self) -> PlanVersion {
        PlanVersion {
            id: PlanVersionId::from_uuid(uuid("plan", 0)),
            plan: "pro".into(),
            products: vec![ApiProductId::from_uuid(uuid("product", 0))],
            rate_limits: vec![RateLimit { requests: 1_000_000, per_seconds: 1, burst: None, scope: Scope::ApiKey, route_group: None }],
            quotas: vec![QuotaLimit {
                meter: Self::meter(),
                limit_microunits: UNITS * quota::MICROUNITS_PER_UNIT,
                enforcement: Enforcement::Hard,
                when_unreachable: WhenUnreachable::Deny,
            }],
            cadence: Cadence::Month,
            billable: BillableRule::default(),
        }
    }

    fn subscription(number: usize) -> Subscription {
        Subscription {
            id: SubscriptionId::from_uuid(uuid("subscription", number)),
            namespace: NamespaceId::from_uuid(uuid("namespace", number)),
            application: ApplicationId::from_uuid(uuid("application", number)),
            plan_version: PlanVersionId::from_uuid(uuid("plan", 0)),
            state: SubscriptionState::Active,
            anchor_date: format!("2025-0{}-1{}", 1 + number % 9, number % 10),
            time_zone: ["Europe/Oslo", "America/New_York", "Asia/Tokyo", "UTC"][number % 4].into(),
        }
    }

    /// A key.
    pub fn api_key(number: usize) -> ApiKey {
        let application = number / KEYS_PER_APPLICATION;
        ApiKey {
            id: ApiKeyId::from_uuid(uuid("key", number)),
            digest: credential(CredentialKind::Live, number).digest(),
            namespace: NamespaceId::from_uuid(uuid("namespace", application)),
            application: ApplicationId::from_uuid(uuid("application", application)),
            mode: Mode::Live,
            expires_at: None,
        }
    }
}

/// An entry for a body.
pub fn entry(generation: u64, body: EntryBody) -> PolicyEntry {
    let (kind, id) = match &body {
        EntryBody::Settings(_) => (EntryKind::Settings, Uuid::nil()),
        EntryBody::Service(service) => (EntryKind::Service, service.id.uuid()),
        EntryBody::Route(route) => (EntryKind::Route, route.id.uuid()),
        EntryBody::PlanVersion(plan) => (EntryKind::PlanVersion, plan.id.uuid()),
        EntryBody::Subscription(subscription) => (EntryKind::Subscription, subscription.id.uuid()),
        EntryBody::ApiKey(key) => (EntryKind::ApiKey, key.id.uuid()),
    };
    PolicyEntry { generation: Generation(generation), id: EntryId { kind, id }, body: Some(body) }
}
