//! From a method and a path to a route: a tree of path segments.
//!
//! At each segment a literal is tried before a parameter, and both before a rest; at the end of a branch a route of the request's method is wanted,
//! and a branch without one is left for the next best. A search visits each node of the tree at most once a branch, so its cost is bounded by the
//! number of templates that could match.

use std::{collections::HashMap, sync::Arc};

use gateway_control::path::{PathTemplate, Segment};
use http::Method;

use super::entries::CompiledRoute;
use crate::pipeline::path;

/// All routes.
#[derive(Debug, Default)]
pub struct Router {
    root: Node,
}

#[derive(Debug, Default)]
struct Node {
    literals: HashMap<Box<str>, Node, foldhash::fast::RandomState>,
    param: Option<Box<Node>>,
    rest: Leaf,
    here: Leaf,
}

/// The routes of one template, by method.
#[derive(Debug, Default)]
struct Leaf {
    by_method: Vec<(Method, Arc<CompiledRoute>)>,
    any: Option<Arc<CompiledRoute>>,
}

/// Why no route was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoRoute {
    /// No template matches the path.
    Path,
    /// Templates match, with these methods only.
    Method(Vec<Method>),
}

impl Router {
    /// Builds the tree. Where two routes have the same method and shape of path, the one with the older id wins.
    pub fn new<'a>(routes: impl Iterator<Item = &'a Arc<CompiledRoute>>) -> Self {
        let mut routes: Vec<_> = routes.collect();
        routes.sort_unstable_by_key(|route| route.id);
        let mut root = Node::default();
        for route in routes {
            root.insert(&route.template, route);
        }
        Self { root }
    }

    /// The route of a request; `path` has been normalized.
    ///
    /// # Errors
    /// When no template, or none of the method, matches.
    pub fn find(&self, method: &Method, path: &str) -> Result<&Arc<CompiledRoute>, NoRoute> {
        let Some(path) = path.strip_prefix('/') else { return Err(NoRoute::Path) };
        let mut allowed = Vec::new();
        if let Some(route) = self.root.find(method, Some(path), &mut allowed) {
            return Ok(route);
        }
        if allowed.is_empty() {
            return Err(NoRoute::Path);
        }
        allowed.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        allowed.dedup();
        Err(NoRoute::Method(allowed))
    }
}

impl Node {
    fn insert(&mut self, template: &PathTemplate, route: &Arc<CompiledRoute>) {
        let mut node = self;
        for segment in template.segments() {
            node = match segment {
                Segment::Literal(text) => node.literals.entry(path::normalize_segment(text).into()).or_default(),
                Segment::Param(_) => node.param.get_or_insert_default(),
                Segment::Rest(_) => return node.rest.insert(route),
            };
        }
        node.here.insert(route);
    }

    /// `rest` is what follows the slash behind this node; `None` at the end of the path.
    fn find<'a>(&'a self, method: &Method, rest: Option<&str>, allowed: &mut Vec<Method>) -> Option<&'a Arc<CompiledRoute>> {
        let Some(rest) = rest else { return self.here.find(method, allowed) };
        let (segment, behind) = rest.split_once('/').map_or((rest, None), |(segment, behind)| (segment, Some(behind)));
        self.literals
            .get(segment)
            .and_then(|node| node.find(method, behind, allowed))
            .or_else(|| self.param.as_ref().filter(|_| !segment.is_empty())?.find(method, behind, allowed))
            .or_else(|| self.rest.find(method, allowed))
    }
}

impl Leaf {
    fn insert(&mut self, route: &Arc<CompiledRoute>) {
        match &route.method {
            None => _ = self.any.get_or_insert_with(|| route.clone()),
            Some(method) if self.by_method.iter().any(|(known, _)| known == method) => (),
            Some(method) => self.by_method.push((method.clone(), route.clone())),
        }
    }

    fn find(&self, method: &Method, allowed: &mut Vec<Method>) -> Option<&Arc<CompiledRoute>> {
        let of = |wanted: &Method| self.by_method.iter().find(|(known, _)| known == wanted).map(|(_, route)| route);
        // A GET route answers HEAD too, unless HEAD has a route of its own.
        let found = of(method).or_else(|| if method == Method::HEAD { of(&Method::GET) } else { None }).or(self.any.as_ref());
        if found.is_none() {
            allowed.extend(self.by_method.iter().map(|(known, _)| known.clone()));
            if self.by_method.iter().any(|(known, _)| known == Method::GET) {
                allowed.push(Method::HEAD);
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use gateway_control::policy::Route;
    use ids::{ApiProductId, RouteId, ServiceId, Uuid};
    use proptest::prelude::*;

    use super::*;

    fn route(number: u128, method: Option<&str>, path: &str) -> Arc<CompiledRoute> {
        let route = Route {
            id: RouteId::from_uuid(Uuid::from_u128(number)),
            product: ApiProductId::from_uuid(Uuid::nil()),
            product_slug: "p".into(),
            service: ServiceId::from_uuid(Uuid::nil()),
            method: method.map(str::to_owned),
            path: path.into(),
            strip_prefix: String::new(),
            group: None,
            meters: Vec::new(),
            options: None,
        };
        Arc::new(CompiledRoute::compile(&route).expect("a valid route"))
    }

    fn router(routes: &[(Option<&str>, &str)]) -> Router {
        let routes: Vec<_> = routes.iter().zip(1..).map(|((method, path), number)| route(number, *method, path)).collect();
        Router::new(routes.iter())
    }

    fn number(found: Result<&Arc<CompiledRoute>, NoRoute>) -> Option<u128> {
        found.ok().map(|route| route.id.uuid().as_u128())
    }

    #[test]
    fn the_most_specific_template_of_the_method_wins() {
        let router = router(&[
            (Some("GET"), "/w/v1/forecast/{city}"),  // 1
            (Some("GET"), "/w/v1/forecast/oslo"),    // 2
            (Some("GET"), "/w/{*rest}"),             // 3
            (Some("POST"), "/w/v1/forecast/{city}"), // 4
            (None, "/w/any"),                        // 5
            (Some("GET"), "/w/{a}/end"),             // 6
            (Some("GET"), "/w/v1/"),                 // 7
        ]);
        let cases = [
            (Method::GET, "/w/v1/forecast/oslo", Some(2)),
            (Method::GET, "/w/v1/forecast/rome", Some(1)),
            (Method::HEAD, "/w/v1/forecast/rome", Some(1)),
            (Method::POST, "/w/v1/forecast/oslo", Some(4)),
            (Method::GET, "/w/v1/forecast/", Some(3)),
            (Method::GET, "/w/v1/x/y", Some(3)),
            (Method::GET, "/w/v1/end", Some(6)),
            (Method::DELETE, "/w/any", Some(5)),
            (Method::GET, "/w/v1/", Some(7)),
            (Method::GET, "/w", None),
            (Method::GET, "/", None),
            (Method::GET, "w/any", None),
        ];
        for (method, path, expected) in cases {
            assert_eq!(number(router.find(&method, path)), expected, "{method} {path}");
        }
        assert_eq!(router.find(&Method::PUT, "/w/v1/forecast/oslo"), Err(NoRoute::Method(vec![Method::GET, Method::HEAD, Method::POST])));
    }

    #[test]
    fn of_two_equal_routes_the_older_one_wins() {
        let (a, b) = (route(1, Some("GET"), "/x/{a}"), route(2, Some("GET"), "/x/{b}"));
        assert_eq!(number(Router::new([&b, &a].into_iter()).find(&Method::GET, "/x/1")), Some(1));
    }

    proptest! {
        /// The tree finds a route exactly when some template matches by itself, and then one that matches.
        #[test]
        fn agrees_with_the_templates(
            templates in proptest::collection::vec("(/(a|b|\\{x\\})){1,4}(/\\{\\*r\\})?", 1..12),
            path in "(/(a|b|c)){0,5}/?",
        ) {
            let routes: Vec<_> = templates.iter().zip(1..).map(|(path, number)| route(number, Some("GET"), path)).collect();
            let router = Router::new(routes.iter());
            let found = router.find(&Method::GET, &path);
            let any = routes.iter().any(|route| route.template.matches(&path));
            prop_assert_eq!(found.is_ok(), any);
            if let Ok(found) = found {
                prop_assert!(found.template.matches(&path));
            }
        }
    }
}
