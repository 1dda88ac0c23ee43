//! Which routes may stand beside each other: two that match the same calls would leave it to chance which one is metered.

use std::collections::BTreeSet;

use gateway_control::{
    options::{RouteOptions, ValueMatch},
    path::{PathTemplate, Segment},
};
use ids::RouteId;

use super::store;
use crate::{
    catalog::{ApiProduct, api_product::RESERVED, check::Problems, store as products},
    db::Tx,
    error::Result,
};

/// A route as it would be.
pub(super) struct Candidate<'a> {
    /// Its id, unless it is new.
    pub id: Option<RouteId>,
    /// Upper case, or `*`.
    pub method: &'a str,
    /// Its path.
    pub path: &'a PathTemplate,
    /// Its hosts and conditions.
    pub options: &'a RouteOptions,
}

/// Adds a problem to `field` if another route in force matches the same calls.
pub(super) async fn check_rivals(tx: &mut Tx, candidate: &Candidate<'_>, field: &'static str, problems: &mut Problems) -> Result<()> {
    let rivals = store::rivals(tx, candidate.method, &candidate.path.shape()).await?;
    let rival = rivals.into_iter().find(|rival| Some(rival.id) != candidate.id && alike(&rival.options, candidate.options));
    if let Some(rival) = rival {
        let message = format!(
            "A route of {} has this method, path, hosts and conditions already. Change one of them, or retire the other route.",
            rival.product
        );
        problems.add(field, message);
    }
    Ok(())
}

fn alike(a: &RouteOptions, b: &RouteOptions) -> bool {
    fn conditions(list: &[ValueMatch]) -> BTreeSet<(&str, Option<&str>)> {
        list.iter().map(|condition| (condition.name.as_str(), condition.value.as_deref())).collect()
    }
    let hosts = |options: &RouteOptions| options.hosts.iter().cloned().collect::<BTreeSet<_>>();
    // One common host is enough to meet.
    let meet =
        if a.hosts.is_empty() || b.hosts.is_empty() { a.hosts.is_empty() == b.hosts.is_empty() } else { !hosts(a).is_disjoint(&hosts(b)) };
    meet && conditions(&a.headers) == conditions(&b.headers) && conditions(&a.query) == conditions(&b.query)
}

/// Adds a problem to `field` if a path reaches into what belongs to another product, or to none.
pub(super) async fn check_territory(
    tx: &mut Tx,
    product: &ApiProduct,
    candidate: &Candidate<'_>,
    field: &'static str,
    problems: &mut Problems,
) -> Result<()> {
    match candidate.path.segments().first() {
        Some(Segment::Literal(first)) if *first == product.slug => (),
        Some(Segment::Literal(first)) if RESERVED.contains(&first.as_str()) => {
            problems.add(field, format!("`/{first}` is taken by the gateway or the portal itself."));
        }
        Some(Segment::Literal(first)) if !first.is_empty() => {
            if let Some(other) = products::product_by_slug(tx, first).await? {
                problems.add(field, format!("`/{first}` belongs to {}.", other.name));
            }
        }
        _ if candidate.options.hosts.is_empty() => {
            let message = format!(
                "Name the hosts, or begin the path with `/{}/` or another fixed segment: else it would take the calls of all.",
                product.slug
            );
            problems.add(field, message);
        }
        _ => (),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_meet_on_a_common_host_with_equal_conditions() {
        let options = |text: &str| serde_json::from_str::<RouteOptions>(text).unwrap();
        let cases = [
            ("{}", r#"{"rewrite": "/x"}"#, true),
            (r#"{"hosts": ["a", "b"]}"#, r#"{"hosts": ["b", "c"]}"#, true),
            (r#"{"hosts": ["a"]}"#, r#"{"hosts": ["b"]}"#, false),
            (r#"{"hosts": ["a"]}"#, "{}", false),
            (r#"{"headers": [{"name": "x"}, {"name": "y"}]}"#, r#"{"headers": [{"name": "y"}, {"name": "x"}]}"#, true),
            (r#"{"headers": [{"name": "x"}]}"#, r#"{"headers": [{"name": "x", "value": "1"}]}"#, false),
            (r#"{"query": [{"name": "x"}]}"#, "{}", false),
        ];
        for (a, b, expected) in cases {
            assert_eq!(alike(&options(a), &options(b)), expected, "{a} {b}");
            assert_eq!(alike(&options(b), &options(a)), expected, "{b} {a}");
        }
    }
}
