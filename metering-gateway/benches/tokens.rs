//! How fast the tokens in an answer are read as it passes: long texts, streams of short events, and documents that are all structure.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use gateway_control::policy::TokenKind;
use http::{HeaderMap, HeaderValue, header};
use metering_gateway::pipeline::tokens::{Figures, Reading, TokenReader};

/// As much as a connection reads at once.
const PIECE_BYTES: usize = 16 * 1024;

fn headers(content_type: &'static str) -> HeaderMap {
    [(header::CONTENT_TYPE, HeaderValue::from_static(content_type))].into_iter().collect()
}

/// OpenAI's chunks, a word each, and the usage at the end.
fn stream(words: usize) -> String {
    let chunk = "data: {\"id\":\"chatcmpl-A1b2C3\",\"object\":\"chat.completion.chunk\",\"created\":1741569952,\"model\":\"gpt-x\",\"choices\":[{\"index\":0,\
        \"delta\":{\"content\":\" word\"},\"logprobs\":null,\"finish_reason\":null}],\"usage\":null}\n\n";
    let usage = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":19,\"completion_tokens\":10,\"total_tokens\":29}}\n\ndata: [DONE]\n\n";
    chunk.repeat(words) + usage
}

/// One answer whose text is long.
fn text(bytes: usize) -> String {
    let text = "All happy families are alike; each unhappy family is unhappy in its own way.\\n".repeat(bytes / 78);
    format!("{{\"choices\":[{{\"message\":{{\"content\":\"{text}\"}}}}],\"usage\":{{\"prompt_tokens\":19,\"completion_tokens\":10}}}}")
}

/// Embeddings: numbers and brackets.
fn numbers(bytes: usize) -> String {
    let vector = format!("[{}0.5]", "-0.0069292834,".repeat(64));
    format!("{{\"data\":[{}[]],\"usage\":{{\"prompt_tokens\":8,\"total_tokens\":8}}}}", format!("{vector},").repeat(bytes / vector.len()))
}

fn read(headers: &HeaderMap, body: &[u8]) -> Option<Figures> {
    let mut reader = TokenReader::new(headers)?;
    body.chunks(PIECE_BYTES).filter_map(|piece| reader.take(piece)).last()
}

fn tokens(criterion: &mut Criterion) {
    let cases = [
        ("event stream", "text/event-stream", stream(4_000)),
        ("long text", "application/json", text(1_000_000)),
        ("numbers", "application/json", numbers(1_000_000)),
    ];
    for (name, content_type, body) in cases {
        let headers = headers(content_type);
        let told = read(&headers, body.as_bytes()).expect("it is told");
        assert!(matches!(told.read(TokenKind::Total), Reading::Exactly(8_000_000 | 29_000_000)), "{told:?}");
        let mut group = criterion.benchmark_group("tokens");
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(name, |bench| bench.iter(|| read(&headers, body.as_bytes())));
        group.finish();
    }
}

criterion_group!(benches, tokens);
criterion_main!(benches);
