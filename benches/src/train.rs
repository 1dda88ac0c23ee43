//! Work for a gateway that writes down how it runs, for its compiler (`scripts/gateway-profiled`): all keys as fast as they are answered, uploads, and
//! wrong keys.

use std::time::Duration;

use anyhow::Context as _;
use tokio::task::JoinSet;

use crate::{
    attack::wrong_keys,
    load::Load,
    peers,
    portal::MockPortal,
    runs::{Bench, CONNECTIONS, PEERS, say},
    world::{PATH, World},
};

/// Uploads that are made, and the bytes of each.
const UPLOADS: usize = 4_000;
const UPLOAD_BYTES: usize = 4_096;
/// How many are under way at once.
const UPLOADERS: usize = 8;

impl Bench {
    /// Gives the gateway beside this binary work, then stops it in order, so that it writes its profile.
    ///
    /// # Errors
    /// When something does not start or answers wrongly, or the gateway does not end.
    pub fn train(&self) -> anyhow::Result<()> {
        let folder = self.folder.path();
        let upstream = peers::upstream(folder, &self.cores)?;
        let world = World { size: PEERS, upstream: upstream.address };
        let load = Load::new(folder, &world, &self.cores)?;
        let keys: Vec<String> = world.keys().take(UPLOADERS).collect();
        let portal = MockPortal::start(world)?;
        let gateway = self.gateway("gateway", &portal, &[])?;
        let mut process = gateway.process;
        let run = load.closed_loop(&process, CONNECTIONS, self.duration)?;
        // A machine that is busy with something else may let a lease come too late.
        let calls = run.per_second * self.duration.as_secs_f64();
        anyhow::ensure!(run.errors as f64 <= calls / 10.0, "{} of {calls:.0} calls failed", run.errors);
        wrong_keys(process.address, Duration::from_secs(2))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(uploads(&format!("http://{}{PATH}", process.address), keys))?;
        say(&format!("{:.0} calls a second, {UPLOADS} uploads, wrong keys", run.per_second));
        process.stop(Duration::from_secs(60))
    }
}

async fn uploads(url: &str, keys: Vec<String>) -> anyhow::Result<()> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    let mut uploaders = JoinSet::new();
    for key in keys {
        let (client, url) = (client.clone(), url.to_owned());
        uploaders.spawn(async move {
            let mut refused = Vec::new();
            for _ in 0..UPLOADS / UPLOADERS {
                let answer = client.get(&url).header("x-api-key", &key).body(vec![b'u'; UPLOAD_BYTES]).send().await?;
                let is_good = answer.status().is_success();
                let body = answer.text().await?;
                if !is_good {
                    refused.push(body);
                }
            }
            anyhow::Ok(refused)
        });
    }
    let mut refused = Vec::new();
    while let Some(ended) = uploaders.join_next().await {
        refused.extend(ended.context("an uploader panicked")??);
    }
    anyhow::ensure!(
        refused.len() <= UPLOADS / 10,
        "{} of {UPLOADS} uploads were refused, the last with {:?}",
        refused.len(),
        refused.last()
    );
    Ok(())
}
