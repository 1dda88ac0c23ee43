//! A1: every REST operation and every page is tried by those who may not. The operations come from the OpenAPI document, the pages from the sources
//! of `src/web`; what is open on purpose stands in the lists below.

use std::{collections::BTreeSet, fs, path::Path};

use ids::TenantId;
use portal::identity::Role;
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::support::{Person, Portal};

/// Operations on what belongs to the caller as a person, whatever the tenant.
const OF_THE_PERSON: [&str; 3] = ["tokens.list", "tokens.create", "tokens.revoke"];

/// Operations on a tenant's rows that are for operators only.
const OF_OPERATORS: [&str; 1] = ["invoices.mark_paid"];

/// Operations on what is on offer to everybody who has signed in.
const OF_THE_CATALOG: [&str; 5] = ["meters.list", "plans.get", "plans.list", "products.get", "products.list"];

/// Pages for everybody.
const PUBLIC_PAGES: [&str; 17] = [
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
const OF_THE_PERSON_FORMS: [&str; 8] =
    ["/account/", "/settings/tokens", "/sign-", "/tenants/", "/verify", "/reset", "/settings/members/{user}/remove", "/dev/"];

struct World {
    portal: Portal,
    tenant: TenantId,
    people: [(Role, Person); 3],
    outsider: Person,
    application: String,
    key: String,
    subscription: String,
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
    let people = [(Role::Owner, owner), (Role::Developer, developer), (Role::Viewer, viewer)];
    World { portal, tenant, people, outsider, application, key, subscription }
}

impl World {
    /// A path with the tenant's own ids in it; ids of other kinds are well-formed and name nothing.
    fn path(&self, template: &str) -> String {
        let filled = template
            .replace("{application}", &self.application)
            .replace("{key}", &self.key)
            .replace("{subscription}", &self.subscription)
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
            "gateways.create" => Some(json!({ "name": "edge" })),
            "gateways.rotate" => Some(json!({ "overlap_seconds": 0 })),
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
    for operation in operations() {
        let path = world.path(&operation.path);
        let call =
            async |token: &str, body: Option<Value>| world.portal.rest_of(&operation.method, &path, token, Some(world.tenant), body).await;
        let what = format!("{} {}", operation.method, operation.path);
        assert_eq!(call("", world.body(&operation.id)).await.status, 401, "{what}, anonymous");
        if OF_THE_PERSON.contains(&operation.id.as_str()) || OF_THE_CATALOG.contains(&operation.id.as_str()) {
            continue;
        }
        let answer = call(&outsider, world.body(&operation.id)).await;
        if operation.of_operator || OF_OPERATORS.contains(&operation.id.as_str()) {
            assert!([403, 404, 422].contains(&answer.status), "{what}, not an operator: {}", answer.body);
            continue;
        }
        assert_eq!(answer.status, 404, "{what}, a member of another organization: {}", answer.body);
        let answer = call(&viewer, world.body(&operation.id)).await;
        if operation.method == "GET" {
            assert!([200, 404].contains(&answer.status), "{what}, a viewer: {}", answer.body);
        } else {
            assert_eq!(answer.status, 403, "{what}, a viewer: {}", answer.body);
        }
    }
    // Those who may: the order is that of a life, so that each finds what it needs.
    for (role, person) in &world.people[..2] {
        let token = world.portal.token(person, Some(world.tenant)).await;
        for id in ["applications.list", "keys.list", "keys.create", "subscriptions.list", "subscriptions.get", "applications.get"] {
            let operation = operations().into_iter().find(|operation| operation.id == id).unwrap();
            let answer = world.portal.rest(&operation.method, &world.path(&operation.path), &token, world.body(id)).await;
            assert!((200..300).contains(&answer.status), "{id} as {role:?}: {}", answer.body);
        }
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
    for (method, template) in pages() {
        let path = world.path(&template);
        let what = format!("{method} {template}");
        let mut visitor = world.portal.visitor();
        if method == "GET" {
            let answer = visitor.get(&path).await;
            if !PUBLIC_PAGES.contains(&template.as_str()) {
                let refused = answer.status == 404 || (answer.status == 303 && answer.location().starts_with("/sign-in"));
                assert!(refused, "{what}, anonymous: {} {}", answer.status, answer.body);
            }
            let of_tenant = ["{application}", "{key}", "{subscription}", "{invoice}"].iter().any(|part| template.contains(part));
            if of_tenant || template.starts_with("/admin") {
                let answer = outsider.get(&path).await;
                assert!([403, 404].contains(&answer.status), "{what}, a member of another organization: {} {}", answer.status, answer.body);
            }
            continue;
        }
        if !PUBLIC_FORMS.contains(&template.as_str()) {
            let answer = visitor.post(&path, &[]).await;
            let refused = (400..500).contains(&answer.status) || (answer.status == 303 && answer.location().starts_with("/sign-in"));
            assert!(refused, "{what}, anonymous: {} {}", answer.status, answer.body);
        }
        if OF_THE_PERSON_FORMS.iter().any(|prefix| template.starts_with(prefix)) || template == "/account/name" {
            continue;
        }
        // Everything that any form asks for, so that what refuses is the permission and not the parser.
        let fields = [
            ("name", "B"),
            ("mode", "test"),
            ("plan", "free"),
            ("application", world.application.as_str()),
            ("overlap_seconds", "0"),
            ("overlap_hours", "0"),
            ("confirm", "yes"),
            ("email", "ada@example.com"),
            ("billing_email", "ada@example.com"),
            ("time_zone", "UTC"),
            ("role", "viewer"),
        ];
        (outsider.csrf, viewer.csrf) = csrf.clone();
        let answer = viewer.post(&path, &fields).await;
        assert!((400..500).contains(&answer.status), "{what}, a viewer: {} {}", answer.status, answer.body);
        if template.contains('{') {
            let answer = outsider.post(&path, &fields).await;
            assert!((400..500).contains(&answer.status), "{what}, a member of another organization: {} {}", answer.status, answer.body);
        }
    }
}
