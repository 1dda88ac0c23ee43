//! A page as a person without scripts has it: its text, its links, and its forms with their hidden fields.

use anyhow::{Context, bail};
use reqwest::{StatusCode, Url};
use scraper::{ElementRef, Html, Node, Selector};

/// A page that was loaded.
#[derive(Debug, Clone)]
pub struct Page {
    /// How the portal answered.
    pub status: StatusCode,
    /// Where the page stands, redirects followed.
    pub url: Url,
    /// The page as it was sent.
    pub html: String,
}

/// A form of a page, to be filled in and sent.
#[derive(Debug, Clone)]
pub struct Form {
    pub(crate) action: Url,
    pub(crate) is_get: bool,
    pub(crate) fields: Vec<Field>,
}

/// A field of a form.
#[derive(Debug, Clone)]
pub(crate) struct Field {
    pub(crate) name: String,
    /// What is sent; `None` for a box that is not ticked, or a file that was not chosen.
    pub(crate) value: Option<Value>,
    /// What can be chosen, as (value, label); empty where anything can be written.
    options: Vec<(String, String)>,
    is_file: bool,
}

#[derive(Debug, Clone)]
pub(crate) enum Value {
    Text(String),
    File { name: String, bytes: Vec<u8> },
}

fn selector(text: &str) -> Selector {
    Selector::parse(text).unwrap_or_else(|error| panic!("`{text}` is no selector: {error}"))
}

/// The text of an element as one reads it: scripts left out, white space folded.
fn text_of(element: ElementRef<'_>) -> String {
    let mut text = String::new();
    for node in element.descendants() {
        if let Node::Text(part) = node.value() {
            let inside = |name: &str| node.ancestors().any(|up| up.value().as_element().is_some_and(|up| up.name() == name));
            if !["script", "style", "template"].into_iter().any(inside) {
                text.push_str(part);
                text.push(' ');
            }
        }
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

impl Page {
    /// All text of the page's body.
    pub fn text(&self) -> String {
        let html = Html::parse_document(&self.html);
        html.select(&selector("body")).next().map(text_of).unwrap_or_default()
    }

    /// The texts of the elements that a CSS selector finds.
    pub fn texts(&self, css: &str) -> Vec<String> {
        Html::parse_document(&self.html).select(&selector(css)).map(text_of).collect()
    }

    /// The values of an attribute of the elements that a CSS selector finds.
    pub fn attributes(&self, css: &str, name: &str) -> Vec<String> {
        let html = Html::parse_document(&self.html);
        html.select(&selector(css)).filter_map(|element| element.value().attr(name)).map(str::to_owned).collect()
    }

    /// The address of the first link with this text.
    pub fn link(&self, text: &str) -> anyhow::Result<String> {
        let html = Html::parse_document(&self.html);
        let links: Vec<(String, String)> = html
            .select(&selector("a[href]"))
            .map(|link| (text_of(link), link.value().attr("href").unwrap_or_default().to_owned()))
            .collect();
        let found = links.iter().find(|(label, _)| label == text).map(|(_, href)| href.clone());
        found.with_context(|| format!("no link `{text}` on {self}; there are {links:?}"))
    }

    /// The figure of a card made by `ui::stat`.
    pub fn stat(&self, label: &str) -> Option<String> {
        let html = Html::parse_document(&self.html);
        let (stats, labels, values) = (selector(".stat"), selector(".stat-label"), selector(".stat-value data"));
        let labelled = |stat: &ElementRef<'_>| stat.select(&labels).next().is_some_and(|found| text_of(found) == label);
        let value = html.select(&stats).find(labelled)?.select(&values).next()?;
        value.value().attr("value").map(str::to_owned)
    }

    /// The first form with a button of this label, as the page fills it in.
    pub fn form(&self, button: &str) -> anyhow::Result<Form> {
        let html = Html::parse_document(&self.html);
        let mut labels = Vec::new();
        for form in html.select(&selector("form")) {
            for candidate in form.select(&selector("button, input[type=submit]")) {
                let label = text_of(candidate);
                if label == button && candidate.value().attr("type") != Some("button") {
                    return self.read_form(&html, form, candidate);
                }
                labels.push(label);
            }
        }
        bail!("no form with a button `{button}` on {self}; there are {labels:?}")
    }

    fn read_form(&self, html: &Html, form: ElementRef<'_>, button: ElementRef<'_>) -> anyhow::Result<Form> {
        let action = form.value().attr("action").filter(|action| !action.is_empty()).unwrap_or(self.url.as_str());
        let mut fields: Vec<Field> = Vec::new();
        for control in form.select(&selector("input[name], select[name], textarea[name]")) {
            let field = read_control(html, control);
            match fields.iter_mut().find(|known| known.name == field.name && !known.options.is_empty() && !field.options.is_empty()) {
                // Radio buttons of a name are one field.
                Some(known) => {
                    known.options.extend(field.options);
                    known.value = field.value.or(known.value.take());
                }
                None => fields.push(field),
            }
        }
        if let Some(name) = button.value().attr("name") {
            let value = Some(Value::Text(button.value().attr("value").unwrap_or_default().to_owned()));
            fields.push(Field { name: name.to_owned(), value, options: Vec::new(), is_file: false });
        }
        Ok(Form {
            action: self.url.join(action)?,
            is_get: form.value().attr("method").is_none_or(|method| method.eq_ignore_ascii_case("get")),
            fields,
        })
    }
}

fn read_control(html: &Html, control: ElementRef<'_>) -> Field {
    let attribute = |name: &str| control.value().attr(name).map(str::to_owned);
    let name = attribute("name").unwrap_or_default();
    let kind = attribute("type").unwrap_or_default();
    let (mut options, mut value) = (Vec::new(), attribute("value").or(Some(String::new())));
    match (control.value().name(), kind.as_str()) {
        ("select", _) => {
            let all: Vec<_> = control.select(&selector("option")).collect();
            let chosen = all.iter().find(|option| option.value().attr("selected").is_some()).or(all.first());
            let value_of = |option: &ElementRef<'_>| option.value().attr("value").map_or_else(|| text_of(*option), str::to_owned);
            value = chosen.map(value_of);
            options = all.iter().map(|option| (value_of(option), text_of(*option))).collect();
        }
        ("textarea", _) => value = Some(control.text().collect::<String>().trim_start_matches('\n').to_owned()),
        (_, "radio" | "checkbox") => {
            let sent = value.filter(|value| !value.is_empty()).unwrap_or_else(|| "on".to_owned());
            options = vec![(sent.clone(), label_of(html, control))];
            value = attribute("checked").map(|_| sent);
        }
        (_, "file" | "submit" | "button" | "image" | "reset") => value = None,
        _ => {}
    }
    Field { name, value: value.map(Value::Text), options, is_file: kind == "file" }
}

/// The text of the label around a control, or of the one that names its id.
fn label_of(html: &Html, control: ElementRef<'_>) -> String {
    let around = control.ancestors().filter_map(ElementRef::wrap).find(|up| up.value().name() == "label");
    let id = control.value().attr("id").unwrap_or_default();
    let labels = selector("label[for]");
    let naming = || html.select(&labels).find(|label| !id.is_empty() && label.value().attr("for") == Some(id));
    around.or_else(naming).map(text_of).unwrap_or_default()
}

impl std::fmt::Display for Page {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text: String = self.text().chars().take(1500).collect();
        write!(formatter, "{} ({}): {text}", self.url, self.status)
    }
}

impl Form {
    fn field(&mut self, name: &str) -> anyhow::Result<&mut Field> {
        let names: Vec<String> = self.fields.iter().map(|field| field.name.clone()).collect();
        let field = self.fields.iter_mut().find(|field| field.name == name);
        field.with_context(|| format!("the form for {} has no field `{name}`; it has {names:?}", self.action))
    }

    /// Writes into a field.
    pub fn set(mut self, name: &str, value: &str) -> anyhow::Result<Self> {
        let field = self.field(name)?;
        if !field.options.is_empty() && !field.options.iter().any(|(known, _)| known == value) {
            bail!("`{name}` cannot be `{value}`; there are {:?}", field.options);
        }
        field.value = Some(Value::Text(value.to_owned()));
        Ok(self)
    }

    /// Chooses what has this text in its label.
    pub fn choose(mut self, name: &str, label: &str) -> anyhow::Result<Self> {
        let field = self.field(name)?;
        let option = field.options.iter().find(|(_, text)| text.contains(label));
        let (value, _) = option.with_context(|| format!("`{name}` offers no `{label}`; there are {:?}", field.options))?;
        field.value = Some(Value::Text(value.clone()));
        Ok(self)
    }

    /// Ticks the box with this label.
    pub fn tick(mut self, label: &str) -> anyhow::Result<Self> {
        for field in &mut self.fields {
            if let Some((value, _)) = field.options.iter().find(|(_, text)| text == label) {
                field.value = Some(Value::Text(value.clone()));
                return Ok(self);
            }
        }
        bail!("the form for {} has no box `{label}`", self.action)
    }

    /// Chooses a file.
    pub fn file(mut self, name: &str, file_name: &str, bytes: Vec<u8>) -> anyhow::Result<Self> {
        let field = self.field(name)?;
        if !field.is_file {
            bail!("`{name}` takes no file");
        }
        field.value = Some(Value::File { name: file_name.to_owned(), bytes });
        Ok(self)
    }

    /// What a field would send now.
    pub fn value(&self, name: &str) -> Option<&str> {
        match self.fields.iter().find(|field| field.name == name)?.value.as_ref()? {
            Value::Text(text) => Some(text),
            Value::File { name, .. } => Some(name),
        }
    }

    /// Whether it takes a file, and so is sent in parts.
    pub(crate) fn is_multipart(&self) -> bool {
        self.fields.iter().any(|field| field.is_file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_read_as_browsers_send_them() {
        let page = Page {
            status: StatusCode::OK,
            url: "http://localhost/a/b".parse().expect("a URL"),
            html: r#"<body><form action="/other"><button>No</button></form><form method="post" action="c"><input type="hidden" name="csrf" value="t">
                <select name="s"><option value="1">One</option><option value="2" selected>Two</option></select><input type="checkbox" name="tick">
                <label><input type="radio" name="r" value="x">Ex</label><input type="radio" name="r" value="y" id="y" checked><label for="y">Why</label>
                <textarea name="t">
text</textarea><button><svg></svg> Go  on</button></form><script>ignored()</script></body>"#
                .to_owned(),
        };
        let form = page.form("Go on").expect("the form");
        assert_eq!(form.action.as_str(), "http://localhost/a/c");
        let sent = ["csrf", "s", "tick", "r", "t"].map(|name| form.value(name));
        assert_eq!(sent, [Some("t"), Some("2"), None, Some("y"), Some("text")]);
        let form = form.choose("r", "Ex").and_then(|form| form.set("tick", "on")).expect("choices");
        assert_eq!((form.value("r"), form.value("tick")), (Some("x"), Some("on")));
        assert!(form.clone().set("s", "3").is_err() && form.set("nothing", "").is_err() && page.form("Back").is_err());
        assert!(!page.text().contains("ignored"));
    }
}
