//! SEMANTICS M1 at the place where it is kept: the body of an answer is polled by hand, and the journal is looked at between two polls. A whole gateway
//! would have gone on by itself before anybody could look.

use std::{convert::Infallible, pin::Pin, rc::Rc, sync::Arc, task::Poll, time::Instant};

use bytes::Bytes;
use calendar::{Clock as _, SystemClock};
use gateway_control::{credential::CredentialKind, policy::Generation};
use http::{Request, Response};
use http_body::{Body as _, Frame};
use http_body_util::Empty;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use ids::Uuid;
use metering_gateway::{
    Config,
    core::Core,
    listener::Peer,
    metrics::Metrics,
    observe::Observer,
    pipeline::{self, body::AnswerBody, caller::CallerStream},
    policy::{PolicyInForce, store::PolicyStore},
    shared::Shared,
    upstream::{Upstreams, tls},
};
use telemetry::Readiness;
use tokio::{sync::oneshot, task::LocalSet};

use crate::harness::{SOON, credential, policy::World, upstream};

/// One core with the policy of a world, and no thread beside this one.
fn core(world: &World, folder: &std::path::Path) -> (Rc<Core>, journal::Journal) {
    let portal = "http://127.0.0.1:1/".parse().expect("a URL");
    let mut config = Config::new(&portal, &credential(CredentialKind::Gateway), folder).expect("valid settings");
    config.cores = Some(1);
    let now = SystemClock.now();
    let settings = journal::Config { streams: 1, ..journal::Config::default() };
    let journal::Opened { journal, mut writers, .. } = journal::Journal::open(folder, settings, now.micros()).expect("a journal");
    let mut store = PolicyStore::default();
    store.begin_snapshot(Uuid::now_v7());
    world.entries().into_iter().for_each(|entry| store.receive(entry));
    let index = store.commit(Generation(1)).index;
    let policy = PolicyInForce::default();
    policy.publish(index, Vec::new());
    policy.confirm(now);
    let (observer, _) = Observer::new(&config.observe).expect("an observer");
    let shared = Shared {
        upstreams: Upstreams::new(config.upstream.clone(), tls::configs(None).expect("TLS")),
        config,
        clock: Arc::new(SystemClock),
        origin: Instant::now(),
        policy,
        certificates: None,
        rate_limits: Default::default(),
        quotas: Default::default(),
        journal: journal.clone(),
        addresses: Default::default(),
        draining_since: Default::default(),
        readiness: Readiness::new(&[]),
        metrics: Arc::<Metrics>::default(),
        observer: Arc::new(observer),
    };
    let shared = Arc::new(shared);
    let metrics = shared.metrics.add_core();
    (Core::new(shared, metrics, writers.remove(0), 0), journal)
}

/// Makes a call as a server receives it over an in-memory connection, and returns the gateway's answer with nothing of its body polled.
async fn answer(core: &Rc<Core>, world: &World, path: &str) -> Response<AnswerBody> {
    let (caller, server) = tokio::io::duplex(64 * 1024);
    let (give, take) = oneshot::channel();
    let (core, give) = (core.clone(), Rc::new(std::cell::Cell::new(Some(give))));
    let service = service_fn(move |request: Request<Incoming>| {
        let (core, give) = (core.clone(), give.clone());
        async move {
            let answer =
                pipeline::handle(core, Rc::new(Peer::new([127, 0, 0, 1].into(), false)), Box::new(request.map(CallerStream::Http2))).await;
            let taken = give.take().expect("one call").send(answer);
            assert!(taken.is_ok(), "the test waits for it");
            std::future::pending::<Result<Response<Empty<Bytes>>, Infallible>>().await
        }
    });
    tokio::task::spawn_local(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(server), service));
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(caller)).await.expect("HTTP");
    tokio::task::spawn_local(connection);
    let request = Request::get(path).header("host", "g").header("x-api-key", world.live.reveal()).body(Empty::<Bytes>::new());
    let sending = sender.send_request(request.expect("a request"));
    tokio::select! {
        answer = tokio::time::timeout(SOON, take) => answer.expect("an answer soon").expect("an answer").into_response(),
        ended = sending => panic!("the call ended by itself: {ended:?}"),
    }
}

/// The next frame, by one poll after another, each of which must be the body's own.
async fn next(body: &mut AnswerBody) -> Option<Frame<Bytes>> {
    let polled = std::future::poll_fn(|cx| match Pin::new(&mut *body).poll_frame(cx) {
        Poll::Ready(frame) => Poll::Ready(frame),
        Poll::Pending => Poll::Pending,
    });
    tokio::time::timeout(SOON, polled).await.expect("a frame soon").map(|frame| frame.expect("a whole answer"))
}

#[tokio::test]
async fn the_record_is_in_the_journal_when_the_last_frame_is_handed_on() {
    let local = LocalSet::new();
    local
        .run_until(async {
            let world = World::new(upstream::start().await);
            let folder = tempfile::tempdir().expect("a folder");
            let (core, journal) = core(&world, folder.path());
            let finished = || (journal.stats().finished_calls, journal.stats().unshipped_records);

            // A known length: the record is there when the last frame is returned, and nothing was polled after it.
            let mut body = answer(&core, &world, "/weather/v1/echo").await.into_body();
            assert_eq!(finished(), (0, 0), "nothing is recorded before anything was handed on");
            let mut frames = 0;
            while !body.is_end_stream() {
                assert_eq!(finished(), (0, 0), "and nothing before the last frame");
                next(&mut body).await.expect("a frame");
                frames += 1;
            }
            assert!(frames > 0);
            assert_eq!(finished(), (1, 1), "the last frame was returned, and nothing has been polled since");
            drop(body);
            assert_eq!(finished(), (1, 1), "once");

            // No known length: the trailers are the last frame.
            let mut body = answer(&core, &world, "/weather/v1/stream?pieces=3").await.into_body();
            let mut pieces = 0;
            loop {
                assert_eq!(finished(), (1, 1));
                let frame = next(&mut body).await.expect("a frame");
                if frame.is_trailers() {
                    break;
                }
                pieces += 1;
            }
            assert_eq!((pieces, finished()), (3, (2, 2)), "the trailers were returned, and nothing has been polled since");
            drop(body);

            // No body: the record is there before the head is handed on.
            let answer = answer(&core, &world, "/weather/v1/status/204").await;
            assert_eq!((answer.status().as_u16(), finished()), (204, (3, 3)));
        })
        .await;
}
