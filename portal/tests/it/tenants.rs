//! Organizations and what their roles are shown.

use portal::identity::Role;
use sqlx::PgPool;

use crate::support::Portal;

#[sqlx::test(migrations = "../migrations")]
async fn viewers_see_no_buttons_that_they_may_not_use(pool: PgPool) {
    let portal = Portal::new(pool);
    let pets = portal.product("pets").await;
    portal.plan("free", &[pets]).await;
    let (developer, viewer) = (portal.person("developer@example.com").await, portal.person("viewer@example.com").await);
    portal.tenant("Acme", &[(&developer, Role::Developer), (&viewer, Role::Viewer)]).await;
    let (mut hers, mut his) = (portal.browser(&developer).await, portal.browser(&viewer).await);
    for (page, button) in [
        ("/overview", "/applications/new"),
        ("/applications", "/applications/new"),
        ("/subscriptions", "href=\"/subscribe\""),
        ("/pricing", "/subscribe?plan=free"),
        ("/catalog/pets", "/subscribe?plan=free"),
    ] {
        assert!(hers.get(page).await.expect_status(200).body.contains(button), "{page}, a developer");
        assert!(!his.get(page).await.expect_status(200).body.contains(button), "{page}, a viewer");
    }
    assert!(portal.visitor().get("/pricing").await.body.contains("/subscribe?plan=free"), "visitors sign in on the way");
}

#[sqlx::test(migrations = "../migrations")]
async fn organizations_of_one_name_have_namespaces_of_their_own(pool: PgPool) {
    let portal = Portal::new(pool);
    let mut namespaces = Vec::new();
    for name in ["ada", "bob", "eve"] {
        let person = portal.person(&format!("{name}@example.com")).await;
        let mut browser = portal.browser(&person).await;
        let form = [("name", "Acme Labs"), ("namespace", ""), ("billing_email", "a@example.com"), ("time_zone", "UTC")];
        assert_eq!(browser.post("/tenants/new", &form).await.location(), "/overview");
        let page = browser.get("/settings").await.expect_status(200).body;
        namespaces.push(["acme-labs-3", "acme-labs-2", "acme-labs"].into_iter().find(|namespace| page.contains(*namespace)).unwrap());
        let form = [("name", "Acme Labs"), ("namespace", "acme-labs"), ("billing_email", "a@example.com"), ("time_zone", "UTC")];
        let taken = browser.post("/tenants/new", &form).await.expect_status(422);
        assert!(taken.body.contains("Another organization has this namespace"), "a chosen one is not changed");
    }
    assert_eq!(namespaces, ["acme-labs", "acme-labs-2", "acme-labs-3"]);
}
