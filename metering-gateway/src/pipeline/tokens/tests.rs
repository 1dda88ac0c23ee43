//! What is read of bodies as the vendors send them, and that neither cuts nor look-alikes change it.

use gateway_control::policy::TokenKind::{self, CachedInput, Input, Output, Total, UncachedInput};
use http::{HeaderMap, HeaderValue, header};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{figures::Figure, *};

fn reader(content_type: &'static str) -> TokenReader {
    let headers: HeaderMap = [(header::CONTENT_TYPE, HeaderValue::from_static(content_type))].into_iter().collect();
    TokenReader::new(&headers).expect("a form that is read")
}

/// What is read of a body in pieces of `cut` bytes.
fn figures(content_type: &'static str, body: &[u8], cut: usize) -> Figures {
    let mut reader = reader(content_type);
    body.chunks(cut).filter_map(|piece| reader.take(piece)).last().unwrap_or_default()
}

/// Whole tokens by kind, in the order of [`TokenKind::ALL`]; the same however the body is cut.
fn read(content_type: &'static str, body: &str) -> [Option<i64>; 7] {
    let whole = figures(content_type, body.as_bytes(), usize::MAX);
    for cut in 1..body.len().min(64) {
        assert_eq!(figures(content_type, body.as_bytes(), cut), whole, "in pieces of {cut}");
    }
    TokenKind::ALL.map(|kind| match whole.read(kind) {
        Reading::Exactly(micros) => Some(micros / 1_000_000),
        _ => None,
    })
}

fn json_body(body: &str) -> [Option<i64>; 7] {
    read("application/json; charset=utf-8", body)
}

fn events(body: &str) -> [Option<i64>; 7] {
    read("text/event-stream", body)
}

#[test]
fn openai_documents() {
    let chat = r#"{"id":"chatcmpl-1","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"Hi \"usage\": {}"}}],
        "usage":{"prompt_tokens":19,"completion_tokens":10,"total_tokens":29,"prompt_tokens_details":{"cached_tokens":4,"audio_tokens":0},
        "completion_tokens_details":{"reasoning_tokens":3,"accepted_prediction_tokens":0}},"service_tier":"default"}"#;
    assert_eq!(json_body(chat), [19, 15, 4, 0, 10, 3, 29].map(Some));
    let responses = r#"{"id":"resp_1","output":[{"type":"message","content":[]}],"usage":{"input_tokens":36,"input_tokens_details":{"cached_tokens":6},
        "output_tokens":87,"output_tokens_details":{"reasoning_tokens":80},"total_tokens":123},"user":null}"#;
    assert_eq!(json_body(responses), [36, 30, 6, 0, 87, 80, 123].map(Some));
    let embeddings = r#"{"object":"list","data":[{"embedding":[0.1,-2e-3]}],"usage":{"prompt_tokens":8,"total_tokens":8}}"#;
    assert_eq!(json_body(embeddings), [8, 8, 0, 0, 0, 0, 8].map(Some));
}

#[test]
fn anthropic_documents() {
    let message = r#"{"type":"message","content":[{"type":"text","text":"Hi"}],"stop_reason":"end_turn","usage":{"input_tokens":2095,
        "cache_creation_input_tokens":200,"cache_read_input_tokens":1000,"cache_creation":{"ephemeral_5m_input_tokens":200},"output_tokens":503,
        "server_tool_use":{"input_tokens":9,"output_tokens":9}}}"#;
    assert_eq!(json_body(message), [3295, 2095, 1000, 200, 503, 0, 3798].map(Some));
    let nulls = r#"{"usage":{"input_tokens":5,"cache_creation_input_tokens":null,"cache_read_input_tokens":null,"output_tokens":1}}"#;
    assert_eq!(json_body(nulls), [5, 5, 0, 0, 1, 0, 6].map(Some));
}

#[test]
fn openai_streams() {
    let chat = "data: {\"choices\":[{\"delta\":{\"content\":\"\\\"usage\\\":{\\\"prompt_tokens\\\":9}\"}}],\"usage\":null}\n\n\
        data: {\"choices\":[],\"usage\":{\"prompt_tokens\":19,\"completion_tokens\":10,\"total_tokens\":29}}\n\ndata: [DONE]\n\n";
    assert_eq!(events(chat), [19, 19, 0, 0, 10, 0, 29].map(Some));
    let responses = "event: response.created\r\ndata: {\"type\":\"response.created\",\"response\":{\"usage\":null}}\r\n\r\n\
        event: response.completed\r\ndata: {\"type\":\"response.completed\",\"response\":{\"id\":\"r\",\"usage\":{\"input_tokens\":7,\
        \"input_tokens_details\":{\"cached_tokens\":2},\"output_tokens\":3,\"output_tokens_details\":{\"reasoning_tokens\":1},\"total_tokens\":10}}}\r\n\r\n";
    assert_eq!(events(responses), [7, 5, 2, 0, 3, 1, 10].map(Some));
}

const BEGUN: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"role\":\"assistant\",\"usage\":{\"input_tokens\":25,\
    \"cache_read_input_tokens\":5,\"output_tokens\":1}}}\n\nevent: ping\ndata: {\"type\": \"ping\"}\n\n";

#[test]
fn anthropic_streams() {
    let body = format!("{BEGUN}event: message_delta\ndata: {{\"type\":\"message_delta\",\"usage\":{{\"output_tokens\":15}}}}\n\n");
    assert_eq!(events(&body), [30, 25, 5, 0, 15, 0, 45].map(Some));
    // Broken off after the start: what came in is known, what went out is not.
    let begun = figures("text/event-stream", BEGUN.as_bytes(), 7);
    let exactly = |tokens: i64| Reading::Exactly(tokens * 1_000_000);
    assert_eq!((begun.read(Input), begun.read(CachedInput)), (exactly(30), exactly(5)));
    assert_eq!((begun.read(Output), begun.read(Total)), (Reading::AtLeast(1_000_000), Reading::AtLeast(31_000_000)));
}

#[test]
fn lines_of_a_stream_end_in_three_ways_and_data_may_have_several() {
    let usage = "{\"usage\":|{\"input_tokens\":1,|\"output_tokens\":2}}";
    for end in ["\n", "\r\n", "\r"] {
        let data = usage.split('|').map(|line| format!("data:{line}{end}")).collect::<String>();
        assert_eq!(events(&format!("\u{feff}: a comment{end}retry: 5{end}{data}{end}"))[4], Some(2), "{end:?}");
    }
    for none in ["datax: ", "dat: ", " data: ", "event: ", "\u{feff}\u{feff}data: "] {
        assert_eq!(events(&format!("{none}{{\"usage\":{{\"output_tokens\":2}}}}\n\n"))[4], None, "{none:?}");
    }
    // A number is not put together from two lines, and an event does not go on in the next.
    assert_eq!(events("data: {\"usage\":{\"output_tokens\":1\ndata: 2}}\n\n")[4], None);
    assert_eq!(events("data: {\"usage\":\n\ndata: {\"output_tokens\":12}}\n\n")[4], None);
}

#[test]
fn look_alikes_are_none() {
    for body in [
        r#"[{"usage":{"output_tokens":1}}]"#,
        r#"{"data":{"usage":{"output_tokens":1}}}"#,
        r#"{"message":{"usage":{"output_tokens":1}}}"#,
        r#"{"response":{"usage":{"output_tokens":1}}}"#,
        r#"{"usage":[{"output_tokens":1}]}"#,
        r#"{"usage":{"nested":{"output_tokens":1}}}"#,
        r#"{"text":"\",\"usage\":{\"output_tokens\":1},\"\\"}"#,
        r#"{"text":"{\"usage\":{\"output_tokens\":1}}"}"#,
        r#"{"a":[["}",{"b":"]"}]],"usages":{"output_tokens":1}}"#,
        r#"{"a\"usage":{"output_tokens":1}}"#,
        r#"{"usage\u0000":{"output_tokens":1}}"#,
        r#""usage":{"output_tokens":1}"#,
        r#"{"a":1}{"usage":{"output_tokens":1}}"#,
        r#"{"cached_tokens":1,"usage":{"cached_tokens":5,"reasoning_tokens":5}}"#,
    ] {
        assert_eq!(figures("application/json", body.as_bytes(), 5), Figures::default(), "{body}");
    }
}

#[test]
fn names_may_be_escaped_and_the_last_of_two_counts() {
    assert_eq!(json_body(r#"{"us\u0061ge":{"o\u0075tput_tokens":3}}"#)[4], Some(3));
    assert_eq!(json_body(r#"{"usage":{"output_tokens":1,"output_tokens":2},"usage":{"output_tokens":3}}"#)[4], Some(3));
}

#[test]
fn what_is_no_number_of_tokens_is_malformed() {
    for wrong in ["-1", "\"12\"", "true", "1e3", "[1]", "{\"n\":1}", "0.0000001", "-", "1234567890123456789012345678901234567890"] {
        let body = format!("{{\"usage\":{{\"input_tokens\":{wrong},\"output_tokens\":4}}}}");
        let told = figures("application/json", body.as_bytes(), 3);
        assert_eq!((told.read(Input), told.read(Output)), (Reading::Malformed, Reading::Exactly(4_000_000)), "{wrong}");
        assert_eq!((told.read(UncachedInput), told.read(Total)), (Reading::Malformed, Reading::Malformed), "{wrong}");
    }
    assert_eq!(json_body(r#"{"usage":{"output_tokens": 12.0 }}"#)[4], Some(12));
    assert_eq!(json_body(r#"{"usage":{"output_tokens":99999999999999999999999}}"#)[4], Some(i64::MAX / 1_000_000), "clamped");
}

#[test]
fn a_body_is_read_by_its_type_and_only_as_it_is() {
    let headers = |content_type: Option<&'static str>, encoding: Option<&'static str>| -> HeaderMap {
        let fields = [(header::CONTENT_TYPE, content_type), (header::CONTENT_ENCODING, encoding)];
        fields.into_iter().filter_map(|(name, value)| Some((name, HeaderValue::from_static(value?)))).collect()
    };
    for (content_type, encoding, is_read) in [
        (Some("application/json"), None, true),
        (Some("Application/JSON ; charset=utf-8"), Some("identity"), true),
        (Some("application/vnd.api+json"), None, true),
        (Some("text/event-stream"), None, true),
        (Some("application/json"), Some("gzip"), false),
        (Some("text/event-stream"), Some("identity, br"), false),
        (Some("application/jsonl"), None, false),
        (Some("text/plain"), None, false),
        (None, None, false),
    ] {
        assert_eq!(TokenReader::new(&headers(content_type, encoding)).is_some(), is_read, "{content_type:?} {encoding:?}");
    }
}

/// Documents in which usage, and what looks like it, stands at all depths.
fn document() -> impl Strategy<Value = Value> {
    let name = prop_oneof![
        Just("usage"),
        Just("message"),
        Just("response"),
        Just("input_tokens"),
        Just("prompt_tokens"),
        Just("output_tokens"),
        Just("completion_tokens"),
        Just("total_tokens"),
        Just("input_tokens_details"),
        Just("output_tokens_details"),
        Just("cached_tokens"),
        Just("reasoning_tokens"),
        Just("cache_read_input_tokens"),
        Just("cache_creation_input_tokens"),
        Just("\"usage\":{\\"),
        Just("ä{"),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-5..10_000_i64).prop_map(Value::from),
        any::<f32>().prop_map(|number| json!(number)),
        "\\PC{0,12}".prop_map(Value::from),
        Just(json!("\"},\"usage\":{\"output_tokens\":5}\\")),
    ];
    leaf.prop_recursive(5, 48, 6, move |inner| {
        prop_oneof![
            1 => proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            4 => proptest::collection::vec((name.clone(), inner), 0..7)
                .prop_map(|members| Value::Object(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())),
        ]
    })
}

/// What a parser of whole documents makes of one: written without a look at how it is read in pieces.
fn by_the_book(document: &Value, is_event: bool, figures: &mut Figures) {
    let places = [("/usage", false), ("/response/usage", false), ("/message/usage", true)];
    for (place, begins) in places.into_iter().take(if is_event { 3 } else { 1 }) {
        let Some(Value::Object(usage)) = document.pointer(place) else { continue };
        // Where there are two places, the later one in the text counts; the tests below make documents with one.
        figures.replace(&by_the_book_in(usage, begins));
    }
}

fn by_the_book_in(usage: &Map<String, Value>, begins: bool) -> Figures {
    let figure = |object: &Map<String, Value>, names: &[&str]| {
        // The last member in the text that says anything.
        let said = object.iter().rfind(|(name, value)| names.contains(&name.as_str()) && !value.is_null());
        said.map_or(
            Figure::Absent,
            |(_, value)| {
                if value.is_number() { Figure::parse(value.to_string().as_bytes()) } else { Figure::Malformed }
            },
        )
    };
    let details = |name: &str| usage.get(name).and_then(Value::as_object);
    let none = Map::new();
    let (input, output) = (details("input_tokens_details"), details("output_tokens_details"));
    Figures {
        prompt: figure(usage, &["prompt_tokens"]),
        input: figure(usage, &["input_tokens"]),
        output: figure(usage, &["output_tokens", "completion_tokens"]),
        total: figure(usage, &["total_tokens"]),
        cached: figure(input.unwrap_or(&none), &["cached_tokens"]),
        reasoning: figure(output.unwrap_or(&none), &["reasoning_tokens"]),
        cache_read: figure(usage, &["cache_read_input_tokens"]),
        cache_creation: figure(usage, &["cache_creation_input_tokens"]),
        has_input_details: input.is_some(),
        output_begins: begins,
    }
}

/// The document, with at most one place for usage.
fn with_one_place(mut document: Value, place: u8) -> Value {
    if let Some(members) = document.as_object_mut() {
        let kept = ["usage", "response", "message"][usize::from(place % 3)];
        ["usage", "response", "message"].iter().filter(|name| **name != kept).for_each(|name| _ = members.shift_remove(*name));
    }
    document
}

/// Reads in pieces of the sizes given, over and over.
fn in_pieces(content_type: &'static str, body: &[u8], sizes: &[usize]) -> Figures {
    let mut reader = reader(content_type);
    let (mut rest, mut told) = (body, Figures::default());
    for size in sizes.iter().cycle() {
        let (piece, after) = rest.split_at((*size).min(rest.len()));
        told = reader.take(piece).unwrap_or(told);
        if after.is_empty() {
            return told;
        }
        rest = after;
    }
    told
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// A document read in pieces says what a parser of the whole says, in either way of writing it.
    #[test]
    fn documents_say_what_a_parser_says(
        document in document(),
        inner in document(),
        beside in document(),
        sizes in proptest::collection::vec(1..40_usize, 1..6),
        pretty in any::<bool>(),
    ) {
        let mut document = document;
        if let (Some(members), true) = (document.as_object_mut(), inner.is_object()) {
            members.insert("usage".to_owned(), inner);
            // Beside it stands what would be usage in an event.
            members.insert("message".to_owned(), json!({ "usage": beside }));
        }
        let text = if pretty { serde_json::to_string_pretty(&document) } else { serde_json::to_string(&document) }.expect("JSON");
        let mut expected = Figures::default();
        by_the_book(&document, false, &mut expected);
        prop_assert_eq!(in_pieces("application/json", text.as_bytes(), &sizes), expected, "{}", text);
    }

    /// So do events, each after the other.
    #[test]
    fn events_say_what_a_parser_says(
        documents in proptest::collection::vec((document(), any::<u8>(), any::<bool>()), 0..5),
        sizes in proptest::collection::vec(1..40_usize, 1..6),
        end in prop_oneof![Just("\n"), Just("\r\n"), Just("\r")],
    ) {
        let (mut text, mut expected) = (String::new(), Figures::default());
        for (document, place, pretty) in documents {
            let document = with_one_place(document, place);
            let data = if pretty { serde_json::to_string_pretty(&document) } else { serde_json::to_string(&document) }.expect("JSON");
            text += &format!("event: e{end}{}{end}", data.lines().map(|line| format!("data: {line}{end}")).collect::<String>());
            by_the_book(&document, true, &mut expected);
        }
        prop_assert_eq!(in_pieces("text/event-stream", text.as_bytes(), &sizes), expected, "{}", text);
    }

    /// Whatever the bytes are, cuts change nothing.
    #[test]
    fn cuts_change_nothing(
        bytes in proptest::collection::vec(prop_oneof![
            Just(b"{\"usage\":{".to_vec()), Just(b"\"output_tokens\":12".to_vec()), Just(b"data: ".to_vec()), Just(b"\n\n".to_vec()),
            Just(b"\\\"".to_vec()), Just(b"}}".to_vec()), proptest::collection::vec(any::<u8>(), 0..4),
        ], 0..30),
        sizes in proptest::collection::vec(1..20_usize, 1..6),
    ) {
        let bytes = bytes.concat();
        for content_type in ["application/json", "text/event-stream"] {
            prop_assert_eq!(in_pieces(content_type, &bytes, &sizes), figures(content_type, &bytes, usize::MAX));
        }
    }
}
