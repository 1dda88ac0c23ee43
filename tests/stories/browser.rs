//! The main job in a real browser; the steps stand in `browser/main_job.mjs`.

use e2e::{
    browser,
    stack::{PASSWORD, Story},
};

#[tokio::test(flavor = "multi_thread")]
async fn the_main_walk_in_chromium() -> anyhow::Result<()> {
    if e2e::skipped("browser") {
        return Ok(());
    }
    Story::tell(async |story| {
        let variables = [("PORTAL", story.portal()), ("GATEWAY", story.gateway()), ("PASSWORD", PASSWORD.to_owned())];
        browser::run("main_job", &variables).await
    })
    .await
}
