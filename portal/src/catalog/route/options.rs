//! What else a route matches, and how its calls are changed and bounded.

use calendar::Timestamp;
use gateway_control::{
    options::RouteOptions,
    path::{PathTemplate, Segment},
    rules,
};
use ids::RouteId;
use serde_json::json;

use super::{
    Route,
    matching::{self, Candidate},
    store,
};
use crate::{
    audit::{self, Entry},
    catalog::{ApiProduct, check::Problems},
    db::Tx,
    error::{Error, Result},
    identity::{Actor, Permission},
};

/// Whether a route with these options takes only some of the calls to its path.
pub fn is_conditional(options: &RouteOptions) -> bool {
    !options.hosts.is_empty() || !options.headers.is_empty() || !options.query.is_empty()
}

/// Changes the options of one route.
pub async fn update_options(
    tx: &mut Tx,
    actor: &Actor,
    product: &ApiProduct,
    id: RouteId,
    options: RouteOptions,
    now: Timestamp,
) -> Result<Route> {
    actor.require(Permission::Operate)?;
    let before = store::route(tx, product.id, id).await?.ok_or_else(|| Error::not_found("This route"))?;
    let path: PathTemplate = before.path.parse().map_err(Error::internal)?;
    let mut problems = Problems::default();
    problems.faults(rules::route_faults(&options, &path));
    let candidate = Candidate { id: Some(id), method: &before.method, path: &path, options: &options };
    if before.by_hand {
        matching::check_territory(tx, product, &candidate, "hosts", &mut problems).await?;
    }
    matching::check_rivals(tx, &candidate, "hosts", &mut problems).await?;
    problems.finish()?;
    store::update_options(tx, id, &options).await?;
    let entry = Entry {
        action: "route.options_updated",
        target: id.to_string(),
        before: Some(json!(before.options)),
        after: Some(json!(options)),
        ..Entry::default()
    };
    audit::record(tx, actor, entry, now).await?;
    Ok(Route { options, ..before })
}

/// The options of a route whose path has the same shape under other names: the rewritten path names them anew.
pub(in crate::catalog) fn renamed(options: &RouteOptions, old_path: &str, path: &PathTemplate) -> RouteOptions {
    let rewrite = options.rewrite.as_ref().map(|rewrite| rename(rewrite, old_path, path).unwrap_or_else(|| rewrite.clone()));
    RouteOptions { rewrite, ..options.clone() }
}

fn rename(rewrite: &str, old_path: &str, path: &PathTemplate) -> Option<String> {
    let (rewrite, old): (PathTemplate, PathTemplate) = (rewrite.parse().ok()?, old_path.parse().ok()?);
    let mut out = String::new();
    for segment in rewrite.segments() {
        out.push('/');
        let place = old.segments().iter().position(|other| other == segment);
        match (segment, place.and_then(|place| path.segments().get(place))) {
            (Segment::Literal(text), _) => out.push_str(text),
            (Segment::Param(_), Some(Segment::Param(name))) => out.push_str(&format!("{{{name}}}")),
            (Segment::Rest(_), Some(Segment::Rest(name))) => out.push_str(&format!("{{*{name}}}")),
            _ => return None,
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rewritten_path_follows_the_names_of_the_path() {
        let renamed = |rewrite: &str, old: &str, new: &str| {
            let options = RouteOptions { rewrite: Some(rewrite.to_owned()), ..RouteOptions::default() };
            super::renamed(&options, old, &new.parse().unwrap()).rewrite.unwrap()
        };
        assert_eq!(renamed("/v2/{b}/{a}/x", "/p/{a}/{b}", "/p/{id}/{a}"), "/v2/{a}/{id}/x");
        assert_eq!(renamed("/files/{*rest}", "/p/{*rest}", "/p/{*path}"), "/files/{*path}");
        assert_eq!(renamed("/a", "/p/{a}", "/p/{b}"), "/a");
    }
}
