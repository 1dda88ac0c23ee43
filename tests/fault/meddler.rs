//! A proxy between gateway and portal that mistreats batches of usage: sends them twice, late, in pieces, loses requests and answers, and sends all of them
//! again in another order.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use e2e::{auditor::Dice, visitor::client};
use futures_util::{TryStreamExt, future::join_all};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{Request, Response, StatusCode, body::Frame, body::Incoming, header::HeaderMap, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::check;

type Body = UnsyncBoxBody<Bytes, reqwest::Error>;

/// What may happen to a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Misdeed {
    /// Nothing.
    Spared,
    /// It arrives twice, at the same time.
    Twice,
    /// It arrives late.
    Late,
    /// It never arrives.
    RequestLost,
    /// It arrives, and the gateway never hears so.
    AnswerLost,
    /// Half of it arrives.
    Cut,
}

const MISDEEDS: [Misdeed; 6] = [Misdeed::Spared, Misdeed::Twice, Misdeed::Late, Misdeed::RequestLost, Misdeed::AnswerLost, Misdeed::Cut];

/// The running proxy; it ends with the test.
#[derive(Clone)]
pub struct Meddler(Arc<Inner>);

struct Inner {
    address: SocketAddr,
    portal: String,
    http: reqwest::Client,
    dice: Mutex<Dice>,
    kept: Mutex<Vec<(HeaderMap, Bytes)>>,
    done: Mutex<BTreeMap<Misdeed, u64>>,
    halves_taken: AtomicU64,
    rests: AtomicBool,
}

impl Meddler {
    /// Starts it before this portal.
    pub async fn start(portal: &str, dice: &mut Dice) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let inner = Inner {
            address: listener.local_addr()?,
            portal: portal.to_owned(),
            http: client()?,
            dice: Mutex::new(Dice::new(dice.roll())),
            kept: Mutex::default(),
            done: Mutex::default(),
            halves_taken: AtomicU64::new(0),
            rests: AtomicBool::new(false),
        };
        let meddler = Self(Arc::new(inner));
        let serving = meddler.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let meddler = serving.clone();
                tokio::spawn(async move {
                    let service = service_fn(move |request| meddler.clone().pass(request));
                    // An answer that is to be lost ends its connection.
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(socket), service).await;
                });
            }
        });
        Ok(meddler)
    }

    /// Its address, for the gateway.
    pub fn url(&self) -> String {
        format!("http://{}", self.0.address)
    }

    /// How often it did what.
    pub fn done(&self) -> BTreeMap<Misdeed, u64> {
        self.0.done.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on every batch is spared.
    pub fn rest(&self) {
        self.0.rests.store(true, SeqCst);
    }

    /// How many halves of batches the portal did not refuse.
    pub fn halves_taken(&self) -> u64 {
        self.0.halves_taken.load(SeqCst)
    }

    /// Sends every batch that it saw again, in another order, from several sides at once: late, doubled and out of order. Says how many.
    pub async fn repeat_all(&self, dice: &mut Dice) -> anyhow::Result<usize> {
        let mut kept = self.0.kept.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for last in (1..kept.len()).rev() {
            kept.swap(last, dice.within(0, last as u64 + 1) as usize);
        }
        for batches in kept.chunks(8) {
            let answers = join_all(batches.iter().map(|(headers, body)| self.forward(headers.clone(), body.clone()))).await;
            for answer in answers {
                let answer = answer?;
                check!(answer.status().is_success(), "a batch that was taken before is refused: {}", answer.text().await?);
            }
        }
        Ok(kept.len())
    }

    async fn pass(self, request: Request<Incoming>) -> anyhow::Result<Response<Body>> {
        let is_usage = request.uri().path().ends_with("/control/v1/usage");
        let (parts, body) = request.into_parts();
        if !is_usage {
            let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
            let onward = self.0.http.request(parts.method, format!("{}{path}", self.0.portal)).headers(without_host(parts.headers));
            // The stream of policy goes on for as long as the gateway lives.
            return Ok(streamed(onward.timeout(Duration::from_secs(3_600)).body(body.collect().await?.to_bytes()).send().await?));
        }
        let (headers, body) = (without_host(parts.headers), body.collect().await?.to_bytes());
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner).push((headers.clone(), body.clone()));
        let (misdeed, delay) = self.choose();
        *self.0.done.lock().unwrap_or_else(PoisonError::into_inner).entry(misdeed).or_default() += 1;
        match misdeed {
            Misdeed::Spared => {}
            Misdeed::Late => tokio::time::sleep(delay).await,
            Misdeed::Twice => {
                let (first, second) = tokio::join!(self.forward(headers.clone(), body.clone()), self.forward(headers, body));
                first?;
                return Ok(streamed(second?));
            }
            Misdeed::RequestLost => anyhow::bail!("the request is lost"),
            Misdeed::AnswerLost => {
                self.forward(headers, body).await?;
                anyhow::bail!("the answer is lost");
            }
            Misdeed::Cut => {
                let half = body.slice(..body.len() / 2);
                let answer = self.forward(headers, half).await?;
                self.0.halves_taken.fetch_add(u64::from(!answer.status().is_client_error()), SeqCst);
                let refusal = Full::new(Bytes::new()).map_err(|never| match never {}).boxed_unsync();
                return Ok(Response::builder().status(StatusCode::BAD_GATEWAY).body(refusal)?);
            }
        }
        Ok(streamed(self.forward(headers, body).await?))
    }

    fn choose(&self) -> (Misdeed, Duration) {
        if self.0.rests.load(SeqCst) {
            return (Misdeed::Spared, Duration::ZERO);
        }
        let mut dice = self.0.dice.lock().unwrap_or_else(PoisonError::into_inner);
        (MISDEEDS[dice.within(0, MISDEEDS.len() as u64) as usize], dice.millis(100, 900))
    }

    async fn forward(&self, headers: HeaderMap, body: Bytes) -> anyhow::Result<reqwest::Response> {
        Ok(self.0.http.post(format!("{}/control/v1/usage", self.0.portal)).headers(headers).body(body).send().await?)
    }
}

/// The headers that go onward: the length and the host are the onward request's own.
fn without_host(mut headers: HeaderMap) -> HeaderMap {
    for name in ["host", "content-length", "connection", "transfer-encoding"] {
        headers.remove(name);
    }
    headers
}

fn streamed(answer: reqwest::Response) -> Response<Body> {
    let (status, mut headers) = (answer.status(), without_host(answer.headers().clone()));
    headers.remove("keep-alive");
    let mut response = Response::new(StreamBody::new(answer.bytes_stream().map_ok(Frame::data)).boxed_unsync());
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}
