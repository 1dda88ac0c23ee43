//! A portal on a database of its own, people in it, and browsers that call its router without a socket.
//!
//! ```ignore
//! #[sqlx::test(migrations = "../migrations")]
//! async fn a_viewer_cannot(pool: PgPool) {
//!     let portal = Portal::new(pool);
//!     let ada = portal.person("ada@example.com").await;
//!     let tenant = portal.tenant("Acme", &[(&ada, Role::Owner)]).await;
//!     let mut browser = portal.browser(&ada).await;
//!     let page = browser.get("/applications").await.expect_status(200);
//! }
//! ```

#![allow(dead_code, reason = "each test file uses its part")]

use std::{collections::BTreeMap, sync::Arc};

use axum::{Router, body::Body};
use calendar::{Clock, ManualClock, Timestamp};
use http_body_util::BodyExt;
use ids::{TenantId, UserId};
use portal::{
    App, Config,
    identity::{
        Actor, ActorKind, Role, api_token,
        session::{self, NewSession, Session},
    },
};
use serde_json::Value;
use sqlx::PgPool;
use tower::ServiceExt;

/// The instant at which every test starts.
pub const START: &str = "2026-03-10T12:00:00Z";

/// A portal with a clock that the test moves.
pub struct Portal {
    pub app: App,
    pub clock: ManualClock,
    pub router: Router,
}

/// Somebody with a verified address.
#[derive(Debug, Clone)]
pub struct Person {
    pub id: UserId,
    pub email: String,
}

impl Portal {
    /// With the settings of a test.
    pub fn new(pool: PgPool) -> Self {
        Self::with_settings(pool, &[])
    }

    /// With settings given as environment variables.
    pub fn with_settings(pool: PgPool, settings: &[(&str, &str)]) -> Self {
        let clock = ManualClock::at(START.parse().expect("a valid timestamp"));
        let config = Config::from_lookup(|name| {
            let given = settings.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
            given.or_else(|| (name == "DATABASE_URL").then(|| "postgres://unused".to_owned()))
        })
        .expect("valid settings");
        let app = App::new(pool, Arc::new(clock.clone()), config);
        let router = portal::app::router(app.clone());
        Self { app, clock, router }
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Somebody with a verified address and no usable password.
    pub async fn person(&self, email: &str) -> Person {
        let id = UserId::new();
        sqlx::query("INSERT INTO users (id, email, name, password_hash, verified_at, created_at) VALUES ($1, $2, $3, 'none', $4, $4)")
            .bind(id.uuid())
            .bind(email)
            .bind(email.split('@').next().unwrap_or("Somebody"))
            .bind(self.now())
            .execute(&self.app.pool)
            .await
            .expect("a new address");
        Person { id, email: email.to_owned() }
    }

    /// Somebody of the platform team.
    pub async fn operator(&self, email: &str) -> Person {
        let person = self.person(email).await;
        sqlx::query("UPDATE users SET is_operator = true WHERE id = $1")
            .bind(person.id.uuid())
            .execute(&self.app.pool)
            .await
            .expect("the user");
        person
    }

    /// An organization with members.
    pub async fn tenant(&self, name: &str, members: &[(&Person, Role)]) -> TenantId {
        let id = TenantId::new();
        sqlx::query("INSERT INTO tenants (id, name, namespace, billing_email, time_zone, created_at) VALUES ($1, $2, $3, 'billing@example.com', 'UTC', $4)")
            .bind(id.uuid())
            .bind(name)
            .bind(portal::text::suggest_dns_label(name))
            .bind(self.now())
            .execute(&self.app.pool)
            .await
            .expect("a new namespace");
        for (person, role) in members {
            sqlx::query("INSERT INTO memberships (tenant_id, user_id, role, created_at) VALUES ($1, $2, $3, $4)")
                .bind(id.uuid())
                .bind(person.id.uuid())
                .bind(role.as_str())
                .bind(self.now())
                .execute(&self.app.pool)
                .await
                .expect("a new member");
        }
        id
    }

    /// The person as an actor in these tenants, to call operations directly.
    pub fn actor(&self, person: &Person, memberships: &[(TenantId, Role)]) -> Actor {
        Actor {
            kind: ActorKind::User(person.id),
            is_operator: false,
            is_verified: true,
            memberships: memberships.to_vec(),
            ip: Some("192.0.2.1".into()),
        }
    }

    /// A browser in which nobody is signed in.
    pub fn visitor(&self) -> Browser {
        Browser { router: self.router.clone(), cookies: BTreeMap::new(), csrf: String::new(), ip: "192.0.2.7".into() }
    }

    /// A browser in which the person is signed in.
    pub async fn browser(&self, person: &Person) -> Browser {
        let mut tx = self.app.begin().await.expect("a transaction");
        let expires_at = self.app.config.session_end(self.now(), self.now());
        let input = NewSession { user_id: person.id, ip: None, user_agent: None, expires_at };
        let token = session::create(&mut tx, input, self.now()).await.expect("a session");
        let session: Session = session::load(&mut tx, &token, self.now()).await.expect("a session").expect("the session just made");
        tx.commit().await.expect("a commit");
        let mut browser = self.visitor();
        browser.cookies.insert(portal::web::session_cookie(&self.app.config).into(), token);
        browser.csrf = session.csrf_token();
        browser
    }

    /// A REST token of the person, bound to the tenant if one is named.
    pub async fn token(&self, person: &Person, tenant: Option<TenantId>) -> String {
        let mut tx = self.app.begin().await.expect("a transaction");
        let role = tenant.map(|tenant| (tenant, Role::Viewer));
        let actor = self.actor(person, role.as_slice());
        let input = api_token::NewApiToken { name: "test".into(), tenant_id: tenant, expires_at: None };
        let (_, secret) = api_token::create(&mut tx, &actor, input, self.now()).await.expect("a token");
        tx.commit().await.expect("a commit");
        secret.reveal().to_owned()
    }

    /// Calls the REST API.
    pub async fn rest(&self, method: &str, path: &str, token: &str, body: Option<Value>) -> Answer {
        self.rest_of(method, path, token, None, body).await
    }

    /// Calls the REST API, naming the organization.
    pub async fn rest_of(&self, method: &str, path: &str, token: &str, tenant: Option<TenantId>, body: Option<Value>) -> Answer {
        let mut request = http::Request::builder().method(method).uri(path);
        if let Some(tenant) = tenant {
            request = request.header("tollkeeper-tenant", tenant.to_string());
        }
        if !token.is_empty() {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let body = match body {
            Some(body) => {
                request = request.header("content-type", "application/json");
                Body::from(body.to_string())
            }
            None => Body::empty(),
        };
        send(&self.router, request.body(body).expect("a valid request")).await
    }

    /// Runs the jobs that are due by the test's clock.
    pub async fn run_jobs(&self) {
        portal::worker::runner().run_due(&self.app).await.expect("the queue");
    }
}

/// A browser: cookies, and the form token of the last page.
#[derive(Clone)]
pub struct Browser {
    router: Router,
    pub cookies: BTreeMap<String, String>,
    /// The form token that [`Browser::post`] sends: of the session, or of the last page with a form.
    pub csrf: String,
    /// Sent as `X-Forwarded-For`; heeded with `PORTAL_TRUSTED_PROXY_HOPS=1`.
    pub ip: String,
}

impl Browser {
    /// Reads a page.
    pub async fn get(&mut self, path: &str) -> Answer {
        let request = self.request("GET", path).body(Body::empty()).expect("a valid request");
        self.send(request).await
    }

    /// Posts a form with its token.
    pub async fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let csrf = self.csrf.clone();
        let fields: Vec<(&str, &str)> = fields.iter().copied().chain([("csrf", csrf.as_str())]).collect();
        self.post_raw(path, &fields).await
    }

    /// Posts a form as it is, without its token.
    pub async fn post_raw(&mut self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let request = self.request("POST", path).header("content-type", "application/x-www-form-urlencoded");
        self.send(request.body(Body::from(body)).expect("a valid request")).await
    }

    /// Reads a page with one more header.
    pub async fn get_with(&mut self, path: &str, name: &str, value: &str) -> Answer {
        let request = self.request("GET", path).header(name, value).body(Body::empty()).expect("a valid request");
        self.send(request).await
    }

    /// Posts a file as the field `file` of a multipart form, with the form's token.
    pub async fn upload(&mut self, path: &str, file: &[u8]) -> Answer {
        self.upload_fields(path, &[], file).await
    }

    /// Posts a multipart form of texts and a file, with the form's token.
    pub async fn upload_fields(&mut self, path: &str, fields: &[(&str, &str)], file: &[u8]) -> Answer {
        const BOUNDARY: &str = "----boundary-of-the-test";
        let mut body = Vec::new();
        for (name, value) in [("csrf", self.csrf.clone().as_str())].iter().chain(fields) {
            body.extend(format!("--{BOUNDARY}\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n").bytes());
        }
        body.extend(format!("--{BOUNDARY}\r\ncontent-disposition: form-data; name=\"file\"; filename=\"openapi.yaml\"\r\n\r\n").bytes());
        body.extend(file);
        body.extend(format!("\r\n--{BOUNDARY}--\r\n").bytes());
        let request = self.request("POST", path).header("content-type", format!("multipart/form-data; boundary={BOUNDARY}"));
        self.send(request.body(Body::from(body)).expect("a valid request")).await
    }

    fn request(&self, method: &str, path: &str) -> http::request::Builder {
        let cookies: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("host", "127.0.0.1:8080")
            .header("user-agent", "Test/1")
            .header("x-forwarded-for", &self.ip);
        if method != "GET" {
            request = request.header("origin", "http://127.0.0.1:8080");
        }
        if !cookies.is_empty() {
            request = request.header("cookie", cookies.join("; "));
        }
        request
    }

    async fn send(&mut self, request: http::Request<Body>) -> Answer {
        let answer = send(&self.router, request).await;
        for cookie in answer.headers.get_all("set-cookie") {
            let text = cookie.to_str().expect("a cookie in ASCII");
            let (name, rest) = text.split_once('=').expect("a cookie with a value");
            let value = rest.split(';').next().unwrap_or_default();
            if value.is_empty() {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        if let Some(csrf) = answer.field("csrf") {
            self.csrf = csrf;
        }
        answer
    }
}

/// What the portal answered.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: http::HeaderMap,
    pub body: String,
}

impl Answer {
    /// Fails the test, with the body, unless the status is this.
    #[track_caller]
    pub fn expect_status(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.body);
        self
    }

    /// Where it redirects to.
    #[track_caller]
    pub fn location(&self) -> String {
        assert!((300..400).contains(&self.status), "{}: {}", self.status, self.body);
        self.headers["location"].to_str().expect("a location in ASCII").to_owned()
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// The value of the first `<input name="…" value="…">`.
    pub fn field(&self, name: &str) -> Option<String> {
        let from = self.body.find(&format!("name=\"{name}\" value=\""))?;
        let value = &self.body[from..];
        Some(value.split('"').nth(3)?.to_owned())
    }
}

async fn send(router: &Router, request: http::Request<Body>) -> Answer {
    let response = router.clone().oneshot(request).await.expect("the router never fails");
    let (parts, body) = response.into_parts();
    let body = body.collect().await.expect("a whole body").to_bytes();
    Answer { status: parts.status.as_u16(), headers: parts.headers, body: String::from_utf8_lossy(&body).into_owned() }
}

impl Portal {
    /// The same portal, for a task of its own.
    pub fn share(&self) -> Self {
        Self { app: self.app.clone(), clock: self.clock.clone(), router: self.router.clone() }
    }

    /// Adds accepted usage to the sums, as a worker does all the time.
    pub async fn roll_up(&self) {
        let mut tx = self.app.begin().await.expect("a transaction");
        portal::usage::watermark::catch_up(&mut tx, self.now()).await.expect("sums");
        tx.commit().await.expect("a commit");
    }

    /// A published API product.
    pub async fn product(&self, slug: &str) -> ids::ApiProductId {
        let id = ids::ApiProductId::new();
        sqlx::query("INSERT INTO api_products (id, slug, name, published_at, created_at, updated_at) VALUES ($1, $2, $2, $3, $3, $3)")
            .bind(id.uuid())
            .bind(slug)
            .bind(self.now())
            .execute(&self.app.pool)
            .await
            .expect("a new slug");
        id
    }

    /// A published plan that costs nothing, without limits.
    pub async fn plan(&self, slug: &str, products: &[ids::ApiProductId]) {
        let (plan, version) = (ids::PlanId::new(), ids::PlanVersionId::new());
        sqlx::query("INSERT INTO plans (id, slug, name, position, created_at) VALUES ($1, $2, $2, 1, $3)")
            .bind(plan.uuid())
            .bind(slug)
            .bind(self.now())
            .execute(&self.app.pool)
            .await
            .expect("a new slug");
        let billable = serde_json::to_value(gateway_control::policy::BillableRule::default()).expect("JSON");
        sqlx::query(
            "INSERT INTO plan_versions (id, plan_id, version, currency, cadence, rate_limits, quotas, billable, published_at, created_at)
             VALUES ($1, $2, 1, 'USD', 'month', '[]', '[]', $3, $4, $4)",
        )
        .bind(version.uuid())
        .bind(plan.uuid())
        .bind(billable)
        .bind(self.now())
        .execute(&self.app.pool)
        .await
        .expect("a new version");
        for product in products {
            sqlx::query("INSERT INTO plan_version_products (plan_version_id, product_id) VALUES ($1, $2)")
                .bind(version.uuid())
                .bind(product.uuid())
                .execute(&self.app.pool)
                .await
                .expect("a product");
        }
    }
}

/// The first link of the newest mail in the development mailbox.
pub async fn newest_link(browser: &mut Browser) -> String {
    let list = browser.get("/dev/mailbox").await.expect_status(200);
    let from = list.body.find("/dev/mailbox/mail_").expect("a mail");
    let path = list.body[from..].split('"').next().unwrap();
    let mail = browser.get(path).await.expect_status(200);
    let from = mail.body.find("href=\"http://127.0.0.1:8080/").expect("a link") + "href=\"http://127.0.0.1:8080".len();
    mail.body[from..].split('"').next().unwrap().to_owned()
}
