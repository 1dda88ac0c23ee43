//! Becoming a member: by invitation only.

use std::time::Duration;

use ids::TenantId;
use portal::identity::Role;
use serde_json::json;
use sqlx::PgPool;

use crate::support::{Browser, Person, Portal, newest_link};

const PASSWORD: &str = "correct horse battery";

struct World {
    portal: Portal,
    tenant: TenantId,
    owner: Person,
    browser: Browser,
}

async fn world(pool: PgPool) -> World {
    let portal = Portal::with_settings(pool, &[("PORTAL_DEV_MAILBOX", "true")]);
    let owner = portal.person("owner@example.com").await;
    let tenant = portal.tenant("Acme", &[(&owner, Role::Owner)]).await;
    let browser = portal.browser(&owner).await;
    World { portal, tenant, owner, browser }
}

impl World {
    async fn invite(&mut self, email: &str, role: &str) -> String {
        let answer = self.browser.post("/settings/invitations", &[("email", email), ("role", role)]).await;
        assert_eq!(answer.location(), "/settings/members");
        newest_link(&mut self.browser).await
    }

    async fn role_of(&self, person: &Person) -> Option<String> {
        sqlx::query_scalar("SELECT role FROM memberships WHERE tenant_id = $1 AND user_id = $2")
            .bind(self.tenant.uuid())
            .bind(person.id.uuid())
            .fetch_optional(&self.portal.app.pool)
            .await
            .unwrap()
    }

    async fn actions(&self) -> Vec<String> {
        sqlx::query_scalar("SELECT action FROM audit_log WHERE tenant_id = $1 AND action LIKE 'invitation.%' ORDER BY at, id")
            .bind(self.tenant.uuid())
            .fetch_all(&self.portal.app.pool)
            .await
            .unwrap()
    }
}

/// Posts the answer that stands on a page.
async fn answer(browser: &mut Browser, page: &str, answer: &str) -> u16 {
    let page = browser.get(page).await.expect_status(200);
    let (tenant, invitation) = (page.field("tenant").expect("a form"), page.field("invitation").expect("a form"));
    browser.post("/invitations", &[("tenant", &tenant), ("invitation", &invitation), ("answer", answer)]).await.status
}

#[sqlx::test(migrations = "../migrations")]
async fn nobody_is_a_member_before_accepting(pool: PgPool) {
    let mut world = world(pool).await;
    let ada = world.portal.person("ada@example.com").await;
    assert!(world.browser.get("/settings/members").await.body.contains("No open invitations"));
    let link = world.invite("Ada@Example.com", "developer").await;
    assert_eq!(world.role_of(&ada).await, None, "being invited is not being a member");
    let page = world.browser.get("/settings/members").await.body;
    assert!(page.contains("Ada@Example.com") && page.contains("Revoke invitation"), "{page}");

    let mut hers = world.portal.browser(&ada).await;
    let before = hers.get("/overview").await;
    assert_eq!(before.location(), "/tenants/new");
    assert!(hers.get("/tenants/new").await.body.contains("You are invited"));
    assert_eq!(hers.get("/").await.location(), "/invitations");
    assert_eq!(answer(&mut hers, &link, "accept").await, 303);
    assert_eq!(world.role_of(&ada).await.as_deref(), Some("developer"));
    hers.get("/overview").await.expect_status(200);
    hers.get(&link).await.expect_status(404);
    assert!(hers.get("/invitations").await.body.contains("No invitations"));
    assert_eq!(world.actions().await, ["invitation.created", "invitation.accepted"]);
    let again = world.browser.post("/settings/invitations", &[("email", "ada@example.com"), ("role", "owner")]).await.expect_status(422);
    assert!(again.body.contains("a member already"), "{}", again.body);
}

#[sqlx::test(migrations = "../migrations")]
async fn the_answer_does_not_tell_whether_an_address_has_an_account(pool: PgPool) {
    let mut world = world(pool).await;
    world.portal.person("known@example.com").await;
    let mut pages = Vec::new();
    for name in ["known", "other"] {
        let email = format!("{name}@example.com");
        let sent = world.browser.post("/settings/invitations", &[("email", &email), ("role", "viewer")]).await;
        let shown = world.browser.get(&sent.location()).await.expect_status(200).body;
        assert!(shown.contains(&format!("An invitation is on its way to {email}.")), "{shown}");
        let link = newest_link(&mut world.browser).await;
        let offer = world.portal.visitor().get(&link).await.expect_status(200).body;
        let (token, text) = (link.split("token=").nth(1).unwrap(), offer.replace(name, "name"));
        pages.push((sent.status, text.replace(token, "token")));
    }
    assert_eq!(pages[0], pages[1]);
    let mails: Vec<String> =
        sqlx::query_scalar("SELECT replace(text, 'token=', '') FROM mails").fetch_all(&world.portal.app.pool).await.unwrap();
    let words = |mail: &String| mail.split_whitespace().filter(|word| !word.starts_with("http")).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!((mails.len(), words(&mails[0])), (2, words(&mails[1])));
}

#[sqlx::test(migrations = "../migrations")]
async fn only_the_invited_address_can_answer(pool: PgPool) {
    let mut world = world(pool).await;
    let (ada, eve) = (world.portal.person("ada@example.com").await, world.portal.person("eve@example.com").await);
    let link = world.invite("ada@example.com", "owner").await;
    let mut hers = world.portal.browser(&ada).await;
    let page = hers.get(&link).await.expect_status(200);
    let form =
        [("tenant", page.field("tenant").unwrap()), ("invitation", page.field("invitation").unwrap()), ("answer", "accept".to_owned())];
    let form: Vec<(&str, &str)> = form.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let mut stranger = world.portal.browser(&eve).await;
    let page = stranger.get(&link).await.expect_status(200);
    assert!(page.field("invitation").is_none() && page.body.contains("You are signed in as eve@example.com"), "{}", page.body);
    stranger.post("/invitations", &form).await.expect_status(404);
    // An address that was never verified may be anybody's.
    sqlx::query("UPDATE users SET verified_at = NULL WHERE id = $1").bind(ada.id.uuid()).execute(&world.portal.app.pool).await.unwrap();
    assert!(hers.get(&link).await.expect_status(200).field("invitation").is_none());
    assert_eq!(hers.post("/invitations", &form).await.location(), "/verify");
    assert_eq!((world.role_of(&ada).await, world.role_of(&eve).await), (None, None));
}

#[sqlx::test(migrations = "../migrations")]
async fn somebody_without_an_account_signs_up_and_accepts(pool: PgPool) {
    let mut world = world(pool).await;
    let link = world.invite("new@example.com", "viewer").await;
    let mut visitor = world.portal.visitor();
    let page = visitor.get(&link).await.expect_status(200).body;
    assert!(page.contains("/sign-in?next=/invitation%3Ftoken%3D") && page.contains("href=\"/sign-up\""), "{page}");
    visitor.post("/sign-up", &[("name", "New"), ("email", "new@example.com"), ("password", PASSWORD)]).await.expect_status(200);
    let verify = newest_link(&mut visitor).await;
    let token = visitor.get(&verify).await.expect_status(200).field("token").unwrap();
    assert_eq!(visitor.post("/verify", &[("token", &token), ("password", PASSWORD)]).await.location(), "/");
    assert_eq!(visitor.get("/").await.location(), "/invitations");
    assert_eq!(answer(&mut visitor, "/invitations", "accept").await, 303);
    assert!(visitor.get("/overview").await.expect_status(200).body.contains("Acme"));
    assert!(!visitor.get("/settings/members").await.expect_status(200).body.contains("Send invitation"), "a viewer invites nobody");
}

#[sqlx::test(migrations = "../migrations")]
async fn invitations_end_by_time_by_no_by_being_taken_back_and_by_another(pool: PgPool) {
    let mut world = world(pool).await;
    let ada = world.portal.person("ada@example.com").await;
    let mut hers = world.portal.browser(&ada).await;

    let replaced = world.invite("ada@example.com", "owner").await;
    let link = world.invite("ada@example.com", "viewer").await;
    hers.get(&replaced).await.expect_status(404);
    assert_eq!(answer(&mut hers, &link, "decline").await, 303);
    hers.get(&link).await.expect_status(404);

    let link = world.invite("ada@example.com", "viewer").await;
    let token = world.portal.token(&world.owner, Some(world.tenant)).await;
    let listed = world.portal.rest("GET", "/api/v1/invitations", &token, None).await.expect_status(200).json();
    let id = listed["items"][0]["id"].as_str().unwrap();
    assert_eq!((listed["items"].as_array().unwrap().len(), &listed["items"][0]["role"]), (1, &json!("viewer")));
    let revoke = format!("/settings/invitations/{id}/revoke");
    world.browser.post(&revoke, &[]).await.expect_status(422);
    assert_eq!(world.browser.post(&revoke, &[("confirm", "yes")]).await.status, 303);
    hers.get(&link).await.expect_status(404);
    world.browser.post(&revoke, &[("confirm", "yes")]).await.expect_status(404);

    let link = world.invite("ada@example.com", "viewer").await;
    let page = hers.get(&link).await.expect_status(200);
    let (tenant, invitation) = (page.field("tenant").unwrap(), page.field("invitation").unwrap());
    world.portal.clock.advance(Duration::from_secs(7 * 86_400));
    let mut hers = world.portal.browser(&ada).await;
    hers.get(&link).await.expect_status(404);
    hers.post("/invitations", &[("tenant", &tenant), ("invitation", &invitation), ("answer", "accept")]).await.expect_status(404);
    assert_eq!(world.role_of(&ada).await, None);
    let actions = world.actions().await;
    let count = |action: &str| actions.iter().filter(|it| *it == action).count();
    assert_eq!((count("invitation.created"), count("invitation.revoked"), count("invitation.declined")), (4, 2, 1));
}

#[sqlx::test(migrations = "../migrations")]
async fn programs_invite_too_and_mails_are_bounded(pool: PgPool) {
    let world = world(pool).await;
    let token = world.portal.token(&world.owner, Some(world.tenant)).await;
    let path = "/api/v1/invitations";
    let wrong =
        world.portal.rest("POST", path, &token, Some(json!({ "email": "nobody", "role": "viewer" }))).await.expect_status(422).json();
    assert_eq!(wrong["errors"][0]["field"], "email");
    for _ in 0..5 {
        let body = json!({ "email": "ada@example.com", "role": "developer" });
        let made = world.portal.rest("POST", path, &token, Some(body)).await.expect_status(201).json();
        assert_eq!((&made["email"], &made["invited_by"]), (&json!("ada@example.com"), &json!("owner")));
    }
    let body = json!({ "email": "ADA@example.com", "role": "developer" });
    world.portal.rest("POST", path, &token, Some(body)).await.expect_status(429);
    let listed = world.portal.rest("GET", path, &token, None).await.expect_status(200).json();
    assert_eq!(listed["items"].as_array().unwrap().len(), 1, "what was refused has changed nothing");
    let stored: Vec<String> =
        sqlx::query_scalar("SELECT invitations::text FROM invitations").fetch_all(&world.portal.app.pool).await.unwrap();
    let mail: String = sqlx::query_scalar("SELECT text FROM mails LIMIT 1").fetch_one(&world.portal.app.pool).await.unwrap();
    let secret = mail.split("token=").nth(1).unwrap().split_whitespace().next().unwrap();
    assert!(stored.iter().all(|row| !row.contains(secret)), "the link's token is not stored");
}
