//! The options of a route, compiled: what else it matches, and how its calls are changed and bounded.

use std::time::Duration;

use gateway_control::{
    options::{Cors, HeaderEdits, RouteOptions, RouteTimeouts, ValueMatch},
    path::{PathTemplate, Segment},
    rules,
};
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use url::form_urlencoded;

use super::entries::Reason;
use crate::pipeline::path::normalize_segment;

/// What most routes need not say.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct CompiledOptions {
    /// The hosts that it answers to; none: all.
    pub hosts: Vec<String>,
    /// What a request must have beside method, host and path.
    pub conditions: Conditions,
    /// The path that goes upstream.
    pub rewrite: Option<Rewrite>,
    /// Changes to the headers of the request.
    pub request_headers: Edits,
    /// Changes to the headers of the upstream's answer.
    pub response_headers: Edits,
    /// Until there is a connection.
    pub connect_timeout: Option<Duration>,
    /// From the end of the request until the head of the answer.
    pub first_byte_timeout: Option<Duration>,
    /// Between two pieces of a body, either way.
    pub idle_timeout: Option<Duration>,
    /// For the whole call.
    pub total_timeout: Option<Duration>,
    /// The largest body of a request, in bytes.
    pub max_request_body_bytes: Option<u64>,
    /// Which browser origins may call.
    pub cors: Option<CompiledCors>,
    /// For how long calls are served from a policy that the portal has not confirmed.
    pub max_policy_age: Option<Duration>,
}

impl CompiledOptions {
    /// Parses the options of a route.
    ///
    /// # Errors
    /// When a value makes no sense; the reason names the field.
    pub fn compile(options: &RouteOptions, path: &PathTemplate) -> Result<Self, Reason> {
        if let Some(fault) = rules::route_faults(options, path).into_iter().next() {
            return Err(format!("options.{}: {}", fault.field, fault.message));
        }
        let RouteTimeouts { connect_ms, first_byte_ms, idle_ms, total_ms } = options.timeouts;
        let millis = |value: Option<u32>| value.map(|millis| Duration::from_millis(millis.into()));
        Ok(Self {
            hosts: options.hosts.clone(),
            conditions: Conditions::compile(&options.headers, &options.query)?,
            rewrite: options.rewrite.as_deref().map(|template| Rewrite::compile(template, path)).transpose()?,
            request_headers: Edits::compile(&options.request_headers)?,
            response_headers: Edits::compile(&options.response_headers)?,
            connect_timeout: millis(connect_ms),
            first_byte_timeout: millis(first_byte_ms),
            idle_timeout: millis(idle_ms),
            total_timeout: millis(total_ms),
            max_request_body_bytes: options.max_request_body_bytes,
            cors: options.cors.as_ref().map(CompiledCors::compile).transpose()?,
            max_policy_age: options.max_policy_age_s.map(|seconds| Duration::from_secs(seconds.into())),
        })
    }
}

fn name(text: &str) -> Result<HeaderName, Reason> {
    text.parse().map_err(|_| format!("`{text}` is no header name"))
}

fn value(text: &str) -> Result<HeaderValue, Reason> {
    text.parse().map_err(|_| format!("`{text}` is no value of a header"))
}

/// Headers and query parameters that must all be there.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    headers: Vec<(HeaderName, Option<HeaderValue>)>,
    query: Vec<ValueMatch>,
}

impl Conditions {
    fn compile(headers: &[ValueMatch], query: &[ValueMatch]) -> Result<Self, Reason> {
        let header = |condition: &ValueMatch| Ok((name(&condition.name)?, condition.value.as_deref().map(value).transpose()?));
        Ok(Self { headers: headers.iter().map(header).collect::<Result<_, Reason>>()?, query: query.to_vec() })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.headers.len() + self.query.len()
    }

    /// Whether a request has all of them. Where a name stands several times, one that fits is enough.
    pub fn hold(&self, uri: &Uri, headers: &HeaderMap) -> bool {
        let has = |(name, wanted): &(HeaderName, Option<HeaderValue>)| match wanted {
            None => headers.contains_key(name),
            Some(wanted) => headers.get_all(name).iter().any(|value| value == wanted),
        };
        self.headers.iter().all(has) && self.hold_of_query(uri)
    }

    /// Whether a request has those of the query, whose names and values are compared decoded.
    pub fn hold_of_query(&self, uri: &Uri) -> bool {
        let pairs = || form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
        let fits = |wanted: &ValueMatch| {
            pairs().any(|(name, value)| name == wanted.name && wanted.value.as_ref().is_none_or(|wanted| *wanted == value))
        };
        self.query.iter().all(fits)
    }
}

/// The path that goes upstream: literal text, and segments of the path that was called, by their place.
#[derive(Debug, PartialEq, Eq)]
pub struct Rewrite(Vec<Piece>);

#[derive(Debug, PartialEq, Eq)]
enum Piece {
    Literal(String),
    Segment(usize),
    Rest(usize),
}

impl Rewrite {
    fn compile(template: &str, path: &PathTemplate) -> Result<Self, Reason> {
        let template: PathTemplate = template.parse().map_err(|error| format!("the rewritten path {error}"))?;
        let place = |segment: &Segment| {
            let place = path.segments().iter().position(|other| other == segment);
            place.ok_or_else(|| "the rewritten path has a name that the path does not have".to_owned())
        };
        let piece = |segment: &Segment| match segment {
            Segment::Literal(text) => Ok(Piece::Literal(normalize_segment(text))),
            Segment::Param(_) => place(segment).map(Piece::Segment),
            Segment::Rest(_) => place(segment).map(Piece::Rest),
        };
        template.segments().iter().map(piece).collect::<Result<_, _>>().map(Self)
    }

    /// The path and query for the upstream, behind its base path. `path` has been normalized and matches the route.
    pub fn apply(&self, base: &str, path: &str, query: Option<&str>) -> String {
        let path = path.strip_prefix('/').unwrap_or(path);
        let mut out = String::with_capacity(base.len() + path.len() + query.map_or(0, |query| query.len() + 1) + 16);
        out.push_str(base);
        for piece in &self.0 {
            out.push('/');
            match piece {
                Piece::Literal(text) => out.push_str(text),
                Piece::Segment(at) => out.push_str(path.split('/').nth(*at).unwrap_or_default()),
                Piece::Rest(at) => out.push_str(path.splitn(at + 1, '/').nth(*at).unwrap_or_default()),
            }
        }
        if let Some(query) = query {
            out.push('?');
            out.push_str(query);
        }
        out
    }
}

/// Changes to headers.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Edits {
    remove: Vec<HeaderName>,
    set: Vec<(HeaderName, HeaderValue)>,
}

impl Edits {
    fn compile(edits: &HeaderEdits) -> Result<Self, Reason> {
        let remove = edits.remove.iter().map(|text| name(text)).collect::<Result<_, _>>()?;
        let set = edits.set.iter().map(|(called, text)| Ok((name(called)?, value(text)?))).collect::<Result<_, Reason>>()?;
        Ok(Self { remove, set })
    }

    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty()
    }

    /// Makes the changes: first those to remove, then those to set.
    pub fn apply(&self, headers: &mut HeaderMap) {
        self.remove.iter().for_each(|name| _ = headers.remove(name));
        self.set.iter().for_each(|(name, value)| _ = headers.insert(name, value.clone()));
    }
}

/// Which browser origins may call a route.
#[derive(Debug, PartialEq, Eq)]
pub struct CompiledCors {
    /// `None` for all.
    origins: Option<Vec<HeaderValue>>,
    /// Whether the browser may send cookies.
    pub credentials: bool,
    /// Further headers of the answer that scripts may read; empty, or `, x-a, x-b`.
    pub expose: String,
    /// How long a preflight may be kept.
    pub max_age: Option<HeaderValue>,
}

impl CompiledCors {
    fn compile(cors: &Cors) -> Result<Self, Reason> {
        let any = cors.origins.iter().any(|origin| origin == "*");
        let origins = cors.origins.iter().map(|origin| value(origin)).collect::<Result<_, _>>()?;
        Ok(Self {
            origins: (!any).then_some(origins),
            credentials: cors.credentials,
            expose: cors.expose.iter().map(|name| format!(", {name}")).collect(),
            max_age: cors.max_age_s.map(HeaderValue::from),
        })
    }

    /// Whether an origin may call.
    pub fn allows(&self, origin: &HeaderValue) -> bool {
        self.origins.as_ref().is_none_or(|origins| origins.contains(origin))
    }

    /// Whether all origins may call.
    pub fn allows_all(&self) -> bool {
        self.origins.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compile(options: &str, path: &str) -> Result<CompiledOptions, Reason> {
        let options: RouteOptions = serde_json::from_str(options).expect("options");
        CompiledOptions::compile(&options, &path.parse().expect("a path"))
    }

    #[test]
    fn a_bad_value_is_refused_with_its_field() {
        let refused = compile(r#"{"timeouts": {"total_ms": 0}}"#, "/a").expect_err("no time at all");
        assert_eq!(refused, "options.timeouts.total_ms: Use 1 to 86400000 milliseconds; it says 0.");
        let refused = compile(r#"{"request_headers": {"set": [["tollkeeper-plan", "gold"]]}}"#, "/a").expect_err("forged identity");
        assert!(refused.starts_with("options.request_headers.set: `tollkeeper-plan`"), "{refused}");
    }

    #[test]
    fn paths_are_rewritten_by_place() {
        let cases = [
            ("/forecast/{city}", "/w/v1/forecast/{city}", "/w/v1/forecast/oslo", None, "/base/forecast/oslo"),
            ("/{b}/{a}/{b}", "/x/{a}/{b}", "/x/1/2", Some("q=%20"), "/base/2/1/2?q=%20"),
            ("/v2/{*rest}", "/files/{*rest}", "/files/a/b%20c/", None, "/base/v2/a/b%20c/"),
            ("/v2/{*rest}", "/files/{*rest}", "/files/", None, "/base/v2/"),
            ("/{*all}", "/{*all}", "/a/b", None, "/base/a/b"),
            ("/rpc", "/x/{a}", "/x/1", Some("a=1"), "/base/rpc?a=1"),
            ("/", "/x", "/x", None, "/base/"),
            ("/p%65ts/", "/x", "/x", None, "/base/pets/"),
        ];
        for (template, path, called, query, expected) in cases {
            let options = compile(&format!(r#"{{"rewrite": "{template}"}}"#), path).expect(template);
            assert_eq!(options.rewrite.expect("a rewrite").apply("/base", called, query), expected, "{template} of {path}");
        }
    }

    #[test]
    fn conditions_compare_what_was_meant() {
        let conditions = compile(
            r#"{"headers": [{"name": "x-edition", "value": "2"}, {"name": "x-preview"}],
                "query": [{"name": "a b", "value": "é"}, {"name": "flag"}]}"#,
            "/a",
        )
        .expect("options")
        .conditions;
        assert_eq!(conditions.count(), 4);
        let holds = |uri: &str, fields: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            fields.iter().for_each(|(name, value)| _ = headers.append(*name, HeaderValue::from_static(value)));
            conditions.hold(&uri.parse().expect("a URI"), &headers)
        };
        let good = [("x-edition", "1"), ("x-edition", "2"), ("x-preview", "")];
        assert!(holds("/a?a+b=%C3%A9&flag", &good));
        assert!(holds("/a?flag=0&a%20b=x&a%20b=%c3%a9", &good));
        assert!(!holds("/a?a+b=e&flag", &good), "another value");
        assert!(!holds("/a?a+b=%C3%A9", &good), "a parameter is missing");
        assert!(!holds("/a?a+b=%C3%A9&flag", &good[..2]), "a header is missing");
        assert!(!holds("/a?a+b=%C3%A9&flag", &[good[0], good[2]]), "a header has another value");
        assert!(!holds("/a", &good), "no query");
    }

    #[test]
    fn headers_are_removed_then_set() {
        let edits = compile(r#"{"request_headers": {"remove": ["x-a", "x-b"], "set": [["x-b", "new"], ["x-c", "new"]]}}"#, "/a");
        let mut headers = HeaderMap::new();
        for (name, value) in [("x-a", "1"), ("x-a", "2"), ("x-b", "1"), ("x-c", "1"), ("x-c", "2"), ("x-d", "1")] {
            headers.append(name, HeaderValue::from_static(value));
        }
        edits.expect("options").request_headers.apply(&mut headers);
        let mut left: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.to_str().expect("text"))).collect();
        left.sort_unstable();
        assert_eq!(left, [("x-b", "new"), ("x-c", "new"), ("x-d", "1")]);
    }

    #[test]
    fn origins() {
        let cors = |text: &str| compile(text, "/a").expect("options").cors.expect("CORS");
        let some = cors(r#"{"cors": {"origins": ["https://a.example"], "expose": ["x-a", "x-b"], "max_age_s": 5}}"#);
        let origin = HeaderValue::from_static;
        assert!(some.allows(&origin("https://a.example")) && !some.allows(&origin("https://a.example.evil")) && !some.allows_all());
        assert_eq!((some.expose.as_str(), some.max_age), (", x-a, x-b", Some(origin("5"))));
        let all = cors(r#"{"cors": {"origins": ["*"]}}"#);
        assert!(all.allows(&origin("null")) && all.allows_all());
    }
}
