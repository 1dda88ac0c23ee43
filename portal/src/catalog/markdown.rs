//! Markdown of documents and operators, made safe: no HTML of theirs gets through, and links go to http, https and mail only.

use pulldown_cmark::{CowStr, Event, HeadingLevel, Options, Parser, Tag, TagEnd, html};

/// HTML of a Markdown text, safe to put into a page. Tags in the text are dropped and what stands between them is kept; pictures become their
/// descriptions, because a page loads nothing from elsewhere; headings go two levels down, below the page's own.
pub fn to_html(markdown: &str) -> String {
    let options = Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TASKLISTS;
    let mut html = String::with_capacity(markdown.len() * 3 / 2);
    html::push_html(&mut html, Parser::new_ext(markdown, options).filter_map(safe));
    // Long lines of code scroll sideways, by keyboard too. No text of the document can look like this tag: it is escaped.
    html.replace("<pre>", "<pre tabindex=\"0\">")
}

fn safe(event: Event<'_>) -> Option<Event<'_>> {
    Some(match event {
        Event::Html(text) | Event::InlineHtml(text) => Event::Text(without_tags(&text).into()),
        Event::Start(Tag::Link { link_type, dest_url, title, id }) => {
            let dest_url = if is_safe_link(&dest_url) { dest_url } else { CowStr::Borrowed("") };
            Event::Start(Tag::Link { link_type, dest_url, title, id })
        }
        Event::Start(Tag::Image { .. }) => Event::Start(Tag::Emphasis),
        Event::End(TagEnd::Image) => Event::End(TagEnd::Emphasis),
        Event::Start(Tag::Heading { level, .. }) => {
            Event::Start(Tag::Heading { level: lower(level), id: None, classes: Vec::new(), attrs: Vec::new() })
        }
        Event::End(TagEnd::Heading(level)) => Event::End(TagEnd::Heading(lower(level))),
        Event::Start(Tag::HtmlBlock) => Event::Start(Tag::Paragraph),
        Event::End(TagEnd::HtmlBlock) => Event::End(TagEnd::Paragraph),
        other => other,
    })
}

const fn lower(level: HeadingLevel) -> HeadingLevel {
    match level {
        HeadingLevel::H1 => HeadingLevel::H3,
        HeadingLevel::H2 => HeadingLevel::H4,
        HeadingLevel::H3 => HeadingLevel::H5,
        _ => HeadingLevel::H6,
    }
}

/// Whether a link may be followed: http, https, mail, a place of the same page, or a path of this site. Schemes are compared after removing what
/// browsers ignore in them.
fn is_safe_link(url: &str) -> bool {
    let url: String =
        url.chars().filter(|character| !character.is_whitespace() && !character.is_control()).collect::<String>().to_ascii_lowercase();
    match url.split_once(':') {
        Some((scheme, _)) if !scheme.contains(['/', '?', '#']) => matches!(scheme, "http" | "https" | "mailto"),
        _ => true,
    }
}

/// The text between tags.
fn without_tags(html: &str) -> String {
    let mut text = String::with_capacity(html.len());
    let mut rest = html;
    while let Some(start) = rest.find('<') {
        let (before, tag) = rest.split_at(start);
        text.push_str(before);
        match tag.find('>') {
            Some(end) => rest = &tag[end + 1..],
            None => {
                rest = "";
            }
        }
    }
    text.push_str(rest);
    text
}

/// The prose of a Markdown text: no marks, no code blocks, no headings; a paragraph a line.
pub fn to_text(markdown: &str) -> String {
    let mut text = String::new();
    let mut skipped = 0_usize;
    for event in Parser::new(markdown) {
        match event {
            Event::Start(Tag::CodeBlock(_) | Tag::Heading { .. }) => skipped += 1,
            Event::End(TagEnd::CodeBlock | TagEnd::Heading(_)) => skipped = skipped.saturating_sub(1),
            Event::Text(part) | Event::Code(part) if skipped == 0 => text.push_str(&part),
            Event::Html(part) | Event::InlineHtml(part) if skipped == 0 => text.push_str(&without_tags(&part)),
            Event::SoftBreak => text.push(' '),
            Event::HardBreak | Event::End(TagEnd::Paragraph | TagEnd::Item) => text.push('\n'),
            _ => {}
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nothing_of_the_authors_html_gets_through() {
        let cases = [
            ("<script>alert(1)</script>", "<p>alert(1)</p>\n"),
            ("a <img src=x onerror=alert(1)> b", "<p>a  b</p>\n"),
            ("[x](javascript:alert(1))", "<p><a href=\"\">x</a></p>\n"),
            ("[x](JaVa\tscript:alert(1))", "<p>[x](JaVa\tscript:alert(1))</p>\n"),
            ("[x](<java\tscript:alert(1)>)", "<p><a href=\"\">x</a></p>\n"),
            ("[x](data:text/html,hi)", "<p><a href=\"\">x</a></p>\n"),
            ("[x](https://example.com/?a=1&b=2)", "<p><a href=\"https://example.com/?a=1&amp;b=2\">x</a></p>\n"),
            ("[x](#place)", "<p><a href=\"#place\">x</a></p>\n"),
            ("![alt](https://example.com/a.png)", "<p><em>alt</em></p>\n"),
            ("# Title", "<h3>Title</h3>\n"),
            ("<b>bold</b> & <i", "<p>bold &amp; &lt;i</p>\n"),
        ];
        for (markdown, html) in cases {
            assert_eq!(to_html(markdown), html, "{markdown}");
        }
    }

    #[test]
    fn prose_is_found_in_markdown_and_html() {
        assert_eq!(to_text("# Title\n\nSome **bold** [link](x)\nand `code`.\n\n```\nno\n```\n"), "Some bold link and code.\n");
        assert_eq!(to_text("<fullname>Name</fullname> <p>Text</p>").trim(), "Name Text");
    }

    proptest! {
        #[test]
        fn whatever_is_written_no_tag_of_the_author_stands_in_the_page(markdown in "([<>a-z\"'=/!\\[\\]()#*` \n-]|script|img|onerror=|javascript:){0,60}") {
            let html = to_html(&markdown).to_lowercase();
            for tag in html.split('<').skip(1) {
                let name: String = tag.trim_start_matches('/').chars().take_while(char::is_ascii_alphanumeric).collect();
                let known = ["p", "a", "em", "strong", "code", "pre", "ul", "ol", "li", "h3", "h4", "h5", "h6", "br", "hr", "blockquote", "table", "thead", "tbody", "tr", "th", "td", "del", "input", "div"];
                prop_assert!(known.contains(&name.as_str()), "{name} in {html}");
                prop_assert!(!tag.split('>').next().unwrap_or_default().contains("=\"javascript:"), "{html}");
            }
        }
    }
}
