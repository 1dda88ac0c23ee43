//! The credential of the stack's own gateway: issued once, kept in the data folder, issued anew when the database no longer knows it.

use std::time::Duration;

use portal::{
    App,
    gateways::{self, CreateGateway},
    identity::Actor,
};

use crate::data_dir::DataDir;

const NAME: &str = "local";
/// The name of the file that keeps it.
pub(crate) const SECRET: &str = "gateway-credential";

/// The credential with which the stack's gateway speaks to the portal.
pub async fn ensure(app: &App, data: &DataDir) -> anyhow::Result<String> {
    let mut tx = app.begin().await?;
    if let Some(kept) = data.secret(SECRET)?
        && gateways::authenticate(&mut tx, &kept, app.now()).await.is_ok()
    {
        return Ok(kept);
    }
    let actor = Actor::system();
    let existing = gateways::list(&mut tx, &actor).await?.into_iter().find(|gateway| gateway.name == NAME && gateway.revoked_at.is_none());
    let issued = match existing {
        Some(gateway) => gateways::rotate(&mut tx, &actor, gateway.id, Duration::ZERO, app.now()).await?,
        None => gateways::create(&mut tx, &actor, CreateGateway { name: NAME.to_owned(), namespaces: None }, app.now()).await?,
    };
    data.keep_secret(SECRET, issued.credential.reveal())?;
    app.commit(tx).await?;
    Ok(issued.credential.reveal().to_owned())
}
