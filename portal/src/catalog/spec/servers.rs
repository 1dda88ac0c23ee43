//! Where a document says that calls go.

use serde_json::{Map, Value};
use url::Url;

use super::{Warnings, operations::METHODS, shorten};

/// What the document's servers tell about the upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upstream {
    /// An absolute address that can be used as it is.
    Usable(String),
    /// A guess that an operator must look at, and why: the server has variables or is relative.
    Guess {
        /// What may be right; empty if nothing is known.
        url: String,
        /// A whole sentence.
        why: String,
    },
}

impl Upstream {
    /// The address to put into a form.
    pub fn suggestion(&self) -> &str {
        match self {
            Self::Usable(url) | Self::Guess { url, .. } => url,
        }
    }
}

/// The first server of the document, else of a path or operation. Other servers of paths and operations are warned about: a product has one upstream.
pub fn upstream(root: &Map<String, Value>, document_url: Option<&Url>, warnings: &mut Warnings) -> Upstream {
    let own = first_server(root.get("servers"));
    let below = servers_below(root);
    let Some(server) = own.or(below.first().copied()) else {
        return Upstream::Guess { url: String::new(), why: "The document names no server.".to_owned() };
    };
    if below.iter().any(|other| other.get("url") != server.get("url")) {
        warnings
            .add("Some paths or operations name a server of their own; the gateway sends all calls of the product to its one upstream.");
    }
    resolve(server, document_url)
}

fn first_server(servers: Option<&Value>) -> Option<&Map<String, Value>> {
    servers?.as_array()?.iter().find_map(Value::as_object)
}

fn servers_below(root: &Map<String, Value>) -> Vec<&Map<String, Value>> {
    let items = root.get("paths").and_then(Value::as_object).into_iter().flat_map(Map::values).filter_map(Value::as_object);
    items
        .flat_map(|item| {
            let operations = METHODS.iter().filter_map(|method| item.get(*method)?.as_object());
            first_server(item.get("servers")).into_iter().chain(operations.filter_map(|operation| first_server(operation.get("servers"))))
        })
        .collect()
}

fn resolve(server: &Map<String, Value>, document_url: Option<&Url>) -> Upstream {
    let template = server.get("url").and_then(Value::as_str).unwrap_or_default().trim();
    let url = substitute(template, server.get("variables"));
    let has_variables = template.contains('{');
    let shown = shorten(template, 200);
    match (Url::parse(&url), document_url) {
        (Ok(absolute), _) if is_usable(&absolute) && !has_variables => Upstream::Usable(trimmed(&absolute)),
        (Ok(absolute), _) if is_usable(&absolute) => Upstream::Guess {
            url: trimmed(&absolute),
            why: format!("The document's server `{shown}` has variables; this is what their defaults come to."),
        },
        (Ok(_), _) => {
            Upstream::Guess { url: String::new(), why: format!("The document's server `{shown}` is not an http or https address.") }
        }
        (Err(_), Some(base)) => match base.join(&url) {
            Ok(absolute) if is_usable(&absolute) => Upstream::Guess {
                url: trimmed(&absolute),
                why: format!("The document's server `{shown}` is relative to the address that it was fetched from."),
            },
            _ => Upstream::Guess { url: String::new(), why: format!("The document's server `{shown}` is not an address.") },
        },
        (Err(_), None) => Upstream::Guess {
            url: String::new(),
            why: format!("The document's server `{shown}` is relative, so the document does not say where calls go."),
        },
    }
}

/// Puts the defaults of the variables into their places.
fn substitute(template: &str, variables: Option<&Value>) -> String {
    let mut url = template.to_owned();
    for (name, variable) in variables.and_then(Value::as_object).into_iter().flatten() {
        if let Some(default) = variable.get("default").and_then(super::text_of) {
            url = url.replace(&format!("{{{name}}}"), &default);
        }
    }
    url
}

fn is_usable(url: &Url) -> bool {
    matches!(url.scheme(), "http" | "https") && url.host_str().is_some_and(|host| !host.is_empty() && !host.contains(['{', '}', '%']))
}

fn trimmed(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    url.as_str().trim_end_matches('/').to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(document: Value, url: Option<&str>) -> (Upstream, usize) {
        let Value::Object(root) = document else { unreachable!("an object") };
        let url = url.map(|url| Url::parse(url).expect("a URL"));
        let mut warnings = Warnings::default();
        let upstream = upstream(&root, url.as_ref(), &mut warnings);
        (upstream, warnings.finish().len())
    }

    fn guess(url: &str) -> impl Fn(Upstream) -> bool {
        move |upstream| matches!(upstream, Upstream::Guess { url: guessed, .. } if guessed == url)
    }

    #[test]
    fn only_an_absolute_server_without_variables_is_usable() {
        let servers = |url: &str| json!({"servers": [{"url": url, "variables": {"host": {"default": "api.example.com"}, "port": {"default": 8443}}}]});
        assert_eq!(of(servers("https://api.example.com/v1/"), None).0, Upstream::Usable("https://api.example.com/v1".into()));
        assert!(guess("https://api.example.com:8443/v1")(of(servers("https://{host}:{port}/v1"), None).0));
        assert!(guess("")(of(servers("https://{region}.example.com"), None).0));
        assert!(guess("")(of(servers("/v1"), None).0));
        assert!(guess("https://docs.example.com/v1")(of(servers("/v1"), Some("https://docs.example.com/openapi.json")).0));
        assert!(guess("")(of(servers("ftp://files.example.com"), None).0));
        assert!(guess("")(of(json!({}), None).0));
    }

    #[test]
    fn servers_of_paths_are_used_or_warned_about() {
        let path = |url: &str| json!({"get": {}, "servers": [{"url": url}]});
        let alone = of(json!({"paths": {"/a": path("https://a.example.com"), "/b": path("https://a.example.com")}}), None);
        assert_eq!(alone, (Upstream::Usable("https://a.example.com".into()), 0));
        let several = of(json!({"paths": {"/a": path("https://a.example.com"), "/b": path("https://b.example.com")}}), None);
        assert_eq!(several, (Upstream::Usable("https://a.example.com".into()), 1));
        let beside = of(json!({"servers": [{"url": "https://x.example.com"}], "paths": {"/a": path("https://a.example.com")}}), None);
        assert_eq!(beside, (Upstream::Usable("https://x.example.com".into()), 1));
    }
}
