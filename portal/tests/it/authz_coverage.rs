//! A1: every REST operation and every page is tried by those who may not. The operations come from the OpenAPI document, the pages from the sources
//! of `src/web`; what is open on purpose stands in the lists below.

use std::{collections::BTreeSet, fs, path::Path};

use ids::TenantId;
use portal::identity::Role;
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::support::{Answer, Person, Portal};

/// Operations on what belongs to the caller as a person, whatever the tenant.
const OF_THE_PERSON: [&str; 3] = ["tokens.list", "tokens.create", "tokens.revoke"];

/// Operations on a tenant's rows that are for operators only.
const OF_OPERATORS: [&str; 1] = ["invoices.mark_paid"];

/// Operations on what is on offer to everybody who has signed in.
const OF_THE_CATALOG: [&str; 5] = ["meters.list", "plans.get", "plans.list", "products.get", "products.list"];

/// Pages for everybody.
const PUBLIC_PAGES: [&str; 18] = [
    "/",
    "/assets/{*path}",
    "/catalog",
    "/catalog/pricing",
    "/catalog/{slug}",
    "/catalog/{slug}/document.json",
    "/catalog/{slug}/openapi.json",
    "/catalog/{slug}/reference",
    "/dev/mailbox",
    "/dev/mailbox/{mail}",
    "/healthz",
    "/invitation",
    "/readyz",
    "/pricing",
    "/reset",
    "/reset/new",
    "/sign-in",
    "/sign-up",
];

/// Forms for people who are not signed in; each takes a link, a password or nothing that is somebody's.
const PUBLIC_FORMS: [&str; 7] = ["/reset", "/reset/new", "/sign-in", "/sign-out", "/sign-up", "/verify", "/verify/resend"];

/// Forms on what belongs to the person, which every member may post.
const OF_THE_PERSON_FORMS: [&str; 9] = [
    "/account/",
    "/invitations",
    "/settings/tokens",
    "/sign-",
    "/tenants/",
    "/verify",
    "/reset",
    "/settings/members/{user}/remove",
    "/dev/",
];

struct World {
    portal: Portal,
    tenant: TenantId,
    people: [(Role, Person); 3],
    outsider: Person,
    application: String,
    key: String,
    subscription: String,
    invitation: String,
}

async fn world(pool: PgPool) -> World {
    let portal = Portal::new(pool);
    let weather = portal.product("weather").await;
    portal.plan("free", &[weather]).await;
    let [owner, developer, viewer, outsider] = ["owner", "developer", "viewer", "outsider"].map(|name| format!("{name}@example.com"));
    let owner = portal.person(&owner).await;
    let developer = portal.person(&developer).await;
    let viewer = portal.person(&viewer).await;
    let outsider = portal.person(&outsider).await;
    let tenant = portal.tenant("Acme", &[(&owner, Role::Owner), (&developer, Role::Developer), (&viewer, Role::Viewer)]).await;
    portal.tenant("Elsewhere", &[(&outsider, Role::Owner)]).await;
    let token = portal.token(&owner, Some(tenant)).await;
    let made = portal.rest("POST", "/api/v1/applications", &token, Some(json!({ "name": "A" }))).await.expect_status(201).json();
    let application = made["id"].as_str().unwrap().to_owned();
    let path = format!("/api/v1/applications/{application}/keys");
    let made = portal.rest("POST", &path, &token, Some(json!({ "name": "K", "mode": "live" }))).await.expect_status(201).json();
    let key = made["key"]["id"].as_str().unwrap().to_owned();
    let body = json!({ "application": application, "plan": "free" });
    let made = portal.rest("POST", "/api/v1/subscriptions", &token, Some(body)).await.expect_status(201).json();
    let subscription = made["id"].as_str().unwrap().to_owned();
    let body = json!({ "email": "new@example.com", "role": "viewer" });
    let made = portal.rest("POST", "/api/v1/invitations", &token, Some(body)).await.expect_status(201).json();
    let invitation = made["id"].as_str().unwrap().to_owned();
    let people = [(Role::Owner, owner), (Role::Developer, developer), (Role::Viewer, viewer)];
    World { portal, tenant, people, outsider, application, key, subscription, invitation }
}

impl World {
    /// A path with the tenant's own ids in it; ids of other kinds are well-formed and name nothing.
    fn path(&self, template: &str) -> String {
        let filled = template
            .replace("{application}", &self.application)
            .replace("{key}", &self.key)
            .replace("{subscription}", &self.subscription)
            .replace("{invitation}", &self.invitation)
            .replace("{user}", &self.people[1].1.id.to_string())
            .replace("{token}", &ids::ApiTokenId::new().to_string())
            .replace("{invoice}", &ids::InvoiceId::new().to_string())
            .replace("{gateway}", &ids::GatewayId::new().to_string())
            .replace("{upload}", &ids::SpecId::new().to_string())
            .replace("{route}", &ids::RouteId::new().to_string())
            .replace("{version}", &ids::PlanVersionId::new().to_string())
            .replace("{mail}", &ids::MailId::new().to_string())
            .replace("{tenant}", &self.tenant.to_string());
        let mut path = String::new();
        for (index, part) in filled.split(['{', '}']).enumerate() {
            path.push_str(if index % 2 == 1 { "weather" } else { part });
        }
        path
    }

    fn body(&self, operation: &str) -> Option<Value> {
        match operation {
            "applications.create" => Some(json!({ "name": "B" })),
            "keys.create" => Some(json!({ "name": "K2", "mode": "test" })),
            "keys.rotate" => Some(json!({ "overlap_seconds": 0 })),
            "subscriptions.create" => Some(json!({ "application": self.application, "plan": "free" })),
            "subscriptions.change" => Some(json!({ "plan": "free" })),
            "invoices.mark_paid" => Some(json!({ "reference": "transfer 1" })),
            "products.import" => Some(json!({})),
            "invitations.create" => Some(json!({ "email": "ada@example.com", "role": "viewer" })),
            "invoices.void" | "invoices.mark_uncollectible" => Some(json!({ "reason": "sent twice" })),
            "plans.create" => Some(json!({ "slug": "p", "name": "P", "position": 1 })),
            "plans.create_version" => Some(json!({ "currency": "USD", "cadence": "month", "products": [ids::ApiProductId::new()] })),
            "corrections.create" | "corrections.preview" => Some(json!({
                "tenant": self.tenant, "subscription": self.subscription, "period_start": "2026-03-01T00:00:00Z", "meter": ids::MeterId::new(),
                "units": "-1", "reason": "counted twice", "reference": "ticket 1", "idempotency_key": "one",
            })),
            "gateways.create" => Some(json!({ "name": "edge" })),
            "gateways.write_off" => Some(json!({ "journal": ids::JournalId::new(), "reason": "gone" })),
            "quota_grants.create" => Some(json!({
                "tenant": self.tenant, "subscription": self.subscription, "meter": ids::MeterId::new(), "units": 1, "reason": "a gift",
            })),
            "gateways.rotate" => Some(json!({ "overlap_seconds": 0 })),
            "meters.create" => Some(json!({ "slug": "m", "name": "M", "unit": "unit", "aggregation": "sum" })),
            "products.create" => Some(json!({ "slug": "mine", "name": "Mine", "upstream_url": "http://10.0.0.1" })),
            "routes.create" | "routes.put" => Some(json!({ "path": "/weather/mine" })),
            "routes.put_settings" => Some(json!({ "options": {} })),
            "service.put" => Some(json!({ "upstream_url": "http://10.0.0.1" })),
            "tokens.create" => Some(json!({ "name": "t" })),
            _ => None,
        }
    }
}

struct Operation {
    id: String,
    method: String,
    path: String,
    of_operator: bool,
}

fn operations() -> Vec<Operation> {
    let document: Value = serde_json::from_str(&portal::api::openapi_json().unwrap()).unwrap();
    let mut found = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let of_operator = operation["tags"].as_array().is_some_and(|tags| tags.iter().any(|tag| tag == "operator"));
            let id = operation["operationId"].as_str().unwrap().to_owned();
            found.push(Operation { id, method: method.to_uppercase(), path: path.clone(), of_operator });
        }
    }
    assert!(found.len() >= 16, "the document lists the operations");
    found
}

#[sqlx::test(migrations = "../migrations")]
async fn rest_operations_refuse_those_who_may_not(pool: PgPool) {
    let world = world(pool).await;
    let outsider = world.portal.token(&world.outsider, None).await;
    let viewer = world.portal.token(&world.people[2].1, Some(world.tenant)).await;
    let mut faults = Faults::default();
    for operation in operations() {
        let mut path = world.path(&operation.path);
        if operation.id == "products.import" {
            path.push_str("?slug=mine");
        }
        let call =
            async |token: &str, body: Option<Value>| world.portal.rest_of(&operation.method, &path, token, Some(world.tenant), body).await;
        let what = format!("{} {}", operation.method, operation.path);
        faults.expect(&[401], &what, "anonymous", &call("", world.body(&operation.id)).await);
        if OF_THE_PERSON.contains(&operation.id.as_str()) || OF_THE_CATALOG.contains(&operation.id.as_str()) {
            continue;
        }
        let answer = call(&outsider, world.body(&operation.id)).await;
        if operation.of_operator || OF_OPERATORS.contains(&operation.id.as_str()) {
            faults.expect(&[403], &what, "not an operator", &answer);
            continue;
        }
        faults.expect(&[404], &what, "a member of another organization", &answer);
        let answer = call(&viewer, world.body(&operation.id)).await;
        faults.expect(if operation.method == "GET" { &[200, 404] } else { &[403] }, &what, "a viewer", &answer);
    }
    // Those who may get through with the same bodies, so that it was the permission that refused. What has an id that names nothing is not found, and
    // what an earlier operation of this loop has ended is in conflict.
    let owner = world.portal.token(&world.people[0].1, Some(world.tenant)).await;
    for operation in operations().into_iter().filter(|it| !it.of_operator && !OF_OPERATORS.contains(&it.id.as_str())) {
        let what = format!("{} {}", operation.method, operation.path);
        let answer = world.portal.rest(&operation.method, &world.path(&operation.path), &owner, world.body(&operation.id)).await;
        faults.expect(&[200, 201, 204, 404, 409], &what, "the owner", &answer);
    }
    faults.none();
}

/// Answers that were not as they must be, all of them together.
#[derive(Default)]
struct Faults(Vec<String>);

impl Faults {
    fn expect(&mut self, statuses: &[u16], what: &str, who: &str, answer: &Answer) {
        if !statuses.contains(&answer.status) {
            let start: String = answer.body.chars().take(200).collect();
            self.0.push(format!("{what}, {who}: {} and not one of {statuses:?}: {start}", answer.status));
        }
    }

    fn none(&self) {
        assert!(self.0.is_empty(), "{}", self.0.join("\n"));
    }
}

/// Method and path of every page, read from the sources.
fn pages() -> BTreeSet<(&'static str, String)> {
    let mut pages = BTreeSet::new();
    collect(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src/web")), &mut pages);
    assert!(pages.len() > 40, "the sources list the pages");
    pages
}

fn collect(folder: &Path, pages: &mut BTreeSet<(&'static str, String)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, pages);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let source = fs::read_to_string(&path).unwrap();
            for part in source.split(".route(").skip(1) {
                let Some(template) = part.split('"').nth(1).filter(|template| template.starts_with('/')) else { continue };
                // What follows up to the next route, or the end of the statement.
                let handlers = part.split(['\n', ';']).take_while(|line| !line.trim().is_empty()).take(3).collect::<String>();
                for (method, call) in [("GET", "get("), ("POST", "post(")] {
                    if handlers.contains(call) {
                        pages.insert((method, template.to_owned()));
                    }
                }
            }
        }
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn pages_refuse_those_who_may_not(pool: PgPool) {
    let world = world(pool).await;
    let mut outsider = world.portal.browser(&world.outsider).await;
    let mut viewer = world.portal.browser(&world.people[2].1).await;
    let csrf = (outsider.csrf.clone(), viewer.csrf.clone());
    let mut faults = Faults::default();
    for (method, template) in pages() {
        let path = world.path(&template);
        let what = format!("{method} {template}");
        let mut visitor = world.portal.visitor();
        if method == "GET" {
            let answer = visitor.get(&path).await;
            let sent_to_sign_in = answer.status == 303 && answer.location().starts_with("/sign-in");
            if !PUBLIC_PAGES.contains(&template.as_str()) && !sent_to_sign_in {
                faults.expect(&[404], &what, "anonymous", &answer);
            }
            let of_tenant = ["{application}", "{key}", "{subscription}", "{invoice}"].iter().any(|part| template.contains(part));
            if of_tenant || template.starts_with("/admin") {
                let answer = outsider.get(&path).await;
                faults.expect(
                    if of_tenant && !template.starts_with("/admin") { &[404] } else { &[403] },
                    &what,
                    "a member of another organization",
                    &answer,
                );
            }
            continue;
        }
        if !PUBLIC_FORMS.contains(&template.as_str()) {
            let answer = visitor.post(&path, &[]).await;
            if !(answer.status == 303 && answer.location().starts_with("/sign-in")) {
                faults.expect(&[401, 403, 404], &what, "anonymous", &answer);
            }
        }
        if OF_THE_PERSON_FORMS.iter().any(|prefix| template.starts_with(prefix)) || template == "/account/name" {
            continue;
        }
        // Everything that any form asks for, so that what refuses is the permission and not the parser.
        let fields = [
            ("name", "B"),
            ("slug", "b"),
            ("summary", ""),
            ("unit", "unit"),
            ("aggregation", "sum"),
            ("position", "1"),
            ("currency", "USD"),
            ("cadence", "month"),
            ("statuses", "200-499"),
            ("except", ""),
            ("mode", "test"),
            ("plan", "free"),
            ("application", world.application.as_str()),
            ("overlap_seconds", "0"),
            ("overlap_hours", "0"),
            ("upstream_url", "https://upstream.example.com"),
            ("connect_timeout_ms", "1000"),
            ("first_byte_timeout_ms", "1000"),
            ("reference", "transfer 1"),
            ("action", "import"),
            // Archiving asks for the application's name.
            ("confirm", if template.ends_with("/archive") { "A" } else { "yes" }),
            ("email", "ada@example.com"),
            ("billing_email", "ada@example.com"),
            ("time_zone", "UTC"),
            ("role", "viewer"),
        ];
        (outsider.csrf, viewer.csrf) = csrf.clone();
        // Who is no operator is told so before anything is looked up.
        let refused: &[u16] = if template.starts_with("/admin") { &[403] } else { &[403, 404] };
        if template == "/admin/products/import" {
            faults.expect(refused, &what, "a viewer", &viewer.upload(&path, b"{}").await);
            continue;
        }
        faults.expect(refused, &what, "a viewer", &viewer.post(&path, &fields).await);
        if template.contains('{') {
            faults.expect(refused, &what, "a member of another organization", &outsider.post(&path, &fields).await);
        }
    }
    faults.none();
}
