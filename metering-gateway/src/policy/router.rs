//! From a request to a route: by host, path, conditions and method, the most specific first.
//!
//! 1. **Host.** Routes that name the host, then those with a wildcard (`*.example.com`; of several the one with the longest name), then those of any
//!    host. A less specific group is looked at only when nothing in the more specific one matches.
//! 2. **Path.** A tree of segments: at each one a literal is tried before a parameter, and both before a rest; a branch without a route for the request
//!    is left for the next best. A search visits each node at most once a branch, so its cost is bounded by the number of templates that could match.
//! 3. **Conditions.** Of the routes of one template, those with more conditions on headers and query parameters first.
//! 4. **Method.** A route of the method, then (for HEAD) one of GET, then one of all methods.
//! 5. **Age.** Of routes that are equal in all this, the one with the older id.
//!
//! A host is looked for only where some route names one, and conditions only where a template has them: other requests pay for neither.

use std::{borrow::Cow, collections::HashMap, sync::Arc};

use gateway_control::path::{PathTemplate, Segment};
use http::{HeaderMap, Method, Uri, header};
use ids::RouteId;

use super::{entries::CompiledRoute, options::CompiledCors};
use crate::pipeline::path;

type Map<V> = HashMap<Box<str>, V, foldhash::fast::RandomState>;

/// All routes.
#[derive(Debug, Default)]
pub struct Router {
    any_host: Node,
    /// Absent where no route names a host.
    hosts: Option<Box<Hosts>>,
    by_id: HashMap<RouteId, Arc<CompiledRoute>>,
}

#[derive(Debug, Default)]
struct Hosts {
    exact: Map<Node>,
    /// By the name behind `*.`.
    below: Map<Node>,
}

#[derive(Debug, Default)]
struct Node {
    literals: Map<Node>,
    param: Option<Box<Node>>,
    rest: Leaf,
    here: Leaf,
}

/// The routes of one template.
#[derive(Debug, Default)]
struct Leaf {
    /// Those with conditions, in the order in which they are tried.
    conditioned: Vec<Arc<CompiledRoute>>,
    by_method: Vec<(Method, Arc<CompiledRoute>)>,
    any: Option<Arc<CompiledRoute>>,
}

/// What a route is looked for by.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The method.
    pub method: &'a Method,
    /// The path, normalized.
    pub path: &'a str,
    /// The target, for its host and query.
    pub uri: &'a Uri,
    /// The headers.
    pub headers: &'a HeaderMap,
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
    /// Builds the trees.
    pub fn new<'a>(routes: impl Iterator<Item = &'a Arc<CompiledRoute>>) -> Self {
        let mut routes: Vec<_> = routes.collect();
        routes.sort_unstable_by_key(|route| route.id);
        let by_id = routes.iter().map(|route| (route.id, Arc::clone(route))).collect();
        let mut router = Self { by_id, ..Self::default() };
        for route in routes {
            let hosts = route.options.as_ref().map_or(&[][..], |options| &options.hosts);
            for host in hosts {
                let known = router.hosts.get_or_insert_default();
                let (map, name) = match host.strip_prefix("*.") {
                    Some(name) => (&mut known.below, name),
                    None => (&mut known.exact, host.as_str()),
                };
                map.entry(name.into()).or_default().insert(&route.template, route);
            }
            if hosts.is_empty() {
                router.any_host.insert(&route.template, route);
            }
        }
        router
    }

    /// A route by its id.
    pub fn by_id(&self, id: RouteId) -> Option<&Arc<CompiledRoute>> {
        self.by_id.get(&id)
    }

    /// The route of a request.
    ///
    /// # Errors
    /// When no template, or none of the method, matches.
    pub fn find(&self, asked: Asked<'_>) -> Result<&Arc<CompiledRoute>, NoRoute> {
        let mut allowed = Vec::new();
        if let Some(route) = self.visit(asked, &mut |leaf| leaf.find(asked, &mut allowed)) {
            return Ok(route);
        }
        if allowed.is_empty() {
            return Err(NoRoute::Path);
        }
        allowed.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        allowed.dedup();
        Err(NoRoute::Method(allowed))
    }

    /// What the first route that a browser may mean with a preflight says of origins, if that satisfies `wanted`. A preflight names headers without
    /// their values, so conditions on headers are taken to hold.
    pub fn preflight(&self, asked: Asked<'_>, wanted: impl Fn(&CompiledCors) -> bool) -> Option<&CompiledCors> {
        self.visit(asked, &mut |leaf| {
            let mut routes = leaf.all().filter(|route| takes(route, asked.method).is_some());
            routes.find_map(|route| {
                let options = route.options.as_ref()?;
                options.cors.as_ref().filter(|cors| options.conditions.hold_of_query(asked.uri) && wanted(cors))
            })
        })
    }

    /// Goes through the templates that match, the most specific first, until one has what is looked for.
    fn visit<'a, T>(&'a self, asked: Asked<'_>, look: &mut impl FnMut(&'a Leaf) -> Option<T>) -> Option<T> {
        let path = asked.path.strip_prefix('/')?;
        if let Some(hosts) = &self.hosts
            && let Some(host) = host(asked.uri, asked.headers)
        {
            let below = || host.match_indices('.').filter_map(|(at, _)| hosts.below.get(&host[at + 1..]));
            if let Some(found) = hosts.exact.get(&*host).into_iter().chain(below()).find_map(|node| node.visit(Some(path), look)) {
                return Some(found);
            }
        }
        self.any_host.visit(Some(path), look)
    }
}

/// The host that a request is for, in lower case, without its port: of the target where that names one (HTTP/2, absolute form), else of `Host`.
fn host<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Option<Cow<'a, str>> {
    let text = match uri.authority() {
        Some(authority) => authority.as_str(),
        None => headers.get(header::HOST)?.to_str().ok()?,
    };
    let text = match text.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => text,
    };
    let text = text.strip_suffix('.').unwrap_or(text);
    Some(if text.bytes().any(|byte| byte.is_ascii_uppercase()) { Cow::Owned(text.to_ascii_lowercase()) } else { Cow::Borrowed(text) })
}

/// How well a route takes a method: 0 by its name, 1 HEAD by GET, 2 as any.
fn takes(route: &CompiledRoute, method: &Method) -> Option<u8> {
    match &route.method {
        None => Some(2),
        Some(known) if known == method => Some(0),
        Some(known) if known == Method::GET && method == Method::HEAD => Some(1),
        Some(_) => None,
    }
}

fn conditions(route: &CompiledRoute) -> usize {
    route.options.as_ref().map_or(0, |options| options.conditions.count())
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
    fn visit<'a, T>(&'a self, rest: Option<&str>, look: &mut impl FnMut(&'a Leaf) -> Option<T>) -> Option<T> {
        let Some(rest) = rest else { return look(&self.here) };
        let (segment, behind) = rest.split_once('/').map_or((rest, None), |(segment, behind)| (segment, Some(behind)));
        if let Some(found) = self.literals.get(segment).and_then(|node| node.visit(behind, look)) {
            return Some(found);
        }
        if let Some(found) = self.param.as_ref().filter(|_| !segment.is_empty()).and_then(|node| node.visit(behind, look)) {
            return Some(found);
        }
        look(&self.rest)
    }
}

impl Leaf {
    /// Routes come in the order of their ids.
    fn insert(&mut self, route: &Arc<CompiledRoute>) {
        let wanted = conditions(route);
        if wanted > 0 {
            let at = self.conditioned.partition_point(|known| conditions(known) >= wanted);
            return self.conditioned.insert(at, route.clone());
        }
        match &route.method {
            None => _ = self.any.get_or_insert_with(|| route.clone()),
            Some(method) if self.by_method.iter().any(|(known, _)| known == method) => (),
            Some(method) => self.by_method.push((method.clone(), route.clone())),
        }
    }

    fn all(&self) -> impl Iterator<Item = &Arc<CompiledRoute>> {
        self.conditioned.iter().chain(self.by_method.iter().map(|(_, route)| route)).chain(&self.any)
    }

    fn find<'a>(&'a self, asked: Asked<'_>, allowed: &mut Vec<Method>) -> Option<&'a Arc<CompiledRoute>> {
        let method = asked.method;
        if !self.conditioned.is_empty()
            && let Some(route) = self.find_conditioned(asked, allowed)
        {
            return Some(route);
        }
        let of = |wanted: &Method| self.by_method.iter().find(|(known, _)| known == wanted).map(|(_, route)| route);
        // A GET route answers HEAD too, unless HEAD has a route of its own.
        let found = of(method).or_else(|| if method == Method::HEAD { of(&Method::GET) } else { None }).or(self.any.as_ref());
        if found.is_none() {
            self.by_method.iter().for_each(|(known, _)| allow(allowed, known));
        }
        found
    }

    #[cold]
    fn find_conditioned<'a>(&'a self, asked: Asked<'_>, allowed: &mut Vec<Method>) -> Option<&'a Arc<CompiledRoute>> {
        let mut best: Option<(u8, &Arc<CompiledRoute>)> = None;
        for route in &self.conditioned {
            if best.is_some_and(|(_, best)| conditions(best) > conditions(route)) {
                break;
            }
            if !route.options.as_ref().is_some_and(|options| options.conditions.hold(asked.uri, asked.headers)) {
                continue;
            }
            match takes(route, asked.method) {
                Some(rank) if best.is_none_or(|(least, _)| rank < least) => best = Some((rank, route)),
                Some(_) => (),
                None => route.method.iter().for_each(|known| allow(allowed, known)),
            }
        }
        best.map(|(_, route)| route)
    }
}

/// A path with a route of this method takes it, and HEAD where that is GET.
fn allow(allowed: &mut Vec<Method>, method: &Method) {
    allowed.push(method.clone());
    if method == Method::GET {
        allowed.push(Method::HEAD);
    }
}

#[cfg(test)]
mod tests;
