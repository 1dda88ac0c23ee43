//! A caller's connection: one request after another, each answered before the next is looked at.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, Waker},
};

use http::{Method, Request, Response, StatusCode, Version};
use tokio::time::{Instant, Sleep};

use super::{
    Body, Error, MAX_HEAD_BYTES, Wire,
    head::{self, RequestHead, Scanned},
    write,
};
use crate::{
    core::Core,
    drain::{IDLE_GRACE, Notice, Order},
    listener::Peer,
    pipeline::{
        self, Answer,
        body::AnswerBody,
        caller::CallerStream,
        respond::{About, Failure},
        said::Said,
    },
    turn,
};

/// How a connection goes on.
enum Next {
    /// Another request came, to be answered in this way.
    Request(Box<Request<CallerStream>>, write::Asked),
    /// What came is no request.
    Refused(Failure),
    /// Nobody asks any more.
    Over(&'static str),
}

/// One caller's connection.
struct Connection<'a> {
    core: &'a Rc<Core>,
    peer: &'a Rc<Peer>,
    wire: &'a Rc<Wire>,
    told: &'a std::cell::Cell<Option<Order>>,
    /// Wakes when [`Self::deadline`] may be over. Set anew only when it has fired or would fire too late.
    timer: Pin<&'a mut Sleep>,
    armed: bool,
    deadline: Instant,
    /// When nothing was under way on it any more.
    silent_since: Instant,
    scanned: Scanned,
    asked_before: bool,
}

/// Serves a connection until it ends. The first head must have come by `deadline`.
pub async fn serve(core: &Rc<Core>, peer: &Rc<Peer>, wire: &Rc<Wire>, notice: Notice, deadline: Instant) {
    let told = std::cell::Cell::new(None);
    let calm = notice.calm();
    let mut notice = notice;
    // Listens to the core's word and never ends.
    let listening = async {
        loop {
            let order = notice.next().await;
            told.set(Some(order));
        }
    };
    let mut listening = pin!(listening);
    let mut has_listened = false;
    let timer = pin!(tokio::time::sleep_until(deadline));
    let mut connection = Connection {
        core,
        peer,
        wire,
        told: &told,
        timer,
        armed: false,
        deadline,
        silent_since: Instant::now(),
        scanned: Scanned::default(),
        asked_before: false,
    };
    let mut serving = pin!(connection.run());
    let over = poll_fn(|cx| {
        // Between two phases of the core there is nothing to hear.
        if !has_listened || !calm.get() {
            has_listened = true;
            let _: Poll<()> = listening.as_mut().poll(cx);
        }
        if peer.poll_cut(cx) {
            return Poll::Ready("its caller does not read that its call was ended");
        }
        serving.as_mut().poll(cx)
    })
    .await;
    tracing::debug!(why = over, "a connection ended");
}

impl Connection<'_> {
    /// Says why it ended.
    async fn run(&mut self) -> &'static str {
        loop {
            let (request, asked) = match poll_fn(|cx| self.poll_next(cx)).await {
                Next::Request(request, asked) => (request, asked),
                Next::Refused(failure) => return self.refuse(failure).await,
                Next::Over(why) => {
                    let _ = poll_fn(|cx| self.wire.poll_shutdown(cx)).await;
                    return why;
                }
            };
            self.asked_before = true;
            match self.answer(request, asked).await {
                Ok(true) => (),
                Ok(false) => {
                    let _ = poll_fn(|cx| self.wire.poll_shutdown(cx)).await;
                    return "its last answer was given";
                }
                Err(why) => return why,
            }
            self.silent_since = Instant::from_std(turn::now());
            self.deadline = self.silent_since + self.core.shared.config.keep_alive_timeout;
        }
    }

    /// Waits for the next head.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        loop {
            let (found, begun) = self.wire.with(|inner| {
                let found = if inner.read.is_empty() { Ok(None) } else { head::request(&mut inner.read, &mut self.scanned) };
                (found, !inner.read.is_empty())
            });
            match found {
                Ok(Some(head)) => return Poll::Ready(self.begin(head)),
                Ok(None) => (),
                Err(error) => return Poll::Ready(Next::Refused(refusal(&error))),
            }
            match self.wire.poll_more(cx) {
                Poll::Ready(Ok(())) if self.wire.with(|inner| inner.eof) => return Poll::Ready(Next::Over("its caller has gone")),
                Poll::Ready(Ok(())) if !begun && (self.asked_before || self.is_closing()) => {
                    // From the first byte of a head on, its own bound counts.
                    self.deadline = Instant::from_std(turn::now()) + self.core.shared.config.head_timeout;
                }
                Poll::Ready(Ok(())) => (),
                Poll::Ready(Err(_)) => return Poll::Ready(Next::Over("it broke")),
                // A request that has arrived and was not told of yet is answered before.
                Poll::Pending if !begun && self.is_closing() && self.wire.is_silent() => {
                    // An answer that began before the word came did not say that it was the last.
                    let until = self.silent_since + IDLE_GRACE;
                    if Instant::now() >= until {
                        return Poll::Ready(Next::Over("idle connections are closed"));
                    }
                    self.deadline = self.deadline.min(until);
                    std::task::ready!(self.poll_deadline(cx));
                }
                Poll::Pending => {
                    std::task::ready!(self.poll_deadline(cx));
                    return Poll::Ready(Next::Over("nothing was asked on it in time"));
                }
            }
        }
    }

    /// A request begins. It stands in a box from here on: where it goes, it would be copied from one place to the next.
    fn begin(&self, head: RequestHead) -> Next {
        let RequestHead { request, body, keep_alive, expects_continue, takes_trailers } = head;
        let is_head = *request.method() == Method::HEAD;
        let asked = write::Asked { is_head, version: request.version(), takes_trailers, keep_alive };
        self.wire.begin_inbound(body, expects_continue);
        Next::Request(Box::new(request.map(|()| CallerStream::Http1(Body::new(self.wire.clone())))), asked)
    }

    fn is_closing(&self) -> bool {
        self.told.get() == Some(Order::Close)
    }

    /// Ready when the deadline is over.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if !self.armed || self.timer.deadline() > self.deadline {
                self.timer.as_mut().reset(self.deadline);
                self.armed = true;
            } else if !self.timer.is_elapsed() {
                return Poll::Pending;
            }
            std::task::ready!(self.timer.as_mut().poll(cx));
            if Instant::now() >= self.deadline {
                return Poll::Ready(());
            }
            self.armed = false;
        }
    }

    /// Answers one request. False: it was the last.
    async fn answer(&mut self, request: Box<Request<CallerStream>>, mut asked: write::Asked) -> Result<bool, &'static str> {
        let answer = {
            let mut handling = pin!(pipeline::handle(self.core.clone(), self.peer.clone(), request));
            poll_fn(|cx| match handling.as_mut().poll(cx) {
                Poll::Ready(answer) => Poll::Ready(Some(answer)),
                Poll::Pending => self.poll_gone(cx).map(|()| None),
            })
            .await
        };
        let Some(answer) = answer else { return Err("its caller left before it was answered") };
        let Answer { response: answer, said } = answer;
        // Behind a body that nobody reads no request can be found.
        asked.keep_alive &= self.told.get().is_none() && !self.peer.is_surplus() && self.wire.inbound_may_end();
        let is_switch = answer.status() == StatusCode::SWITCHING_PROTOCOLS;
        self.send(answer, said, &mut asked).await?;
        if is_switch {
            return if self.wire.hand_over() { Err("it goes on with another protocol") } else { Err("nobody takes the other protocol") };
        }
        if !self.wire.inbound_ended() {
            // Whoever passes the request on may still be at it.
            poll_fn(|cx| self.poll_reader(cx)).await;
        }
        Ok(asked.keep_alive && self.wire.inbound_ended())
    }

    async fn send(&self, answer: Response<AnswerBody>, said: Option<Said>, asked: &mut write::Asked) -> Result<(), &'static str> {
        let mut writer = self.core.with_date(|date| write::answer(self.wire, &answer, asked, date, said.as_ref()));
        drop(said);
        let mut body = pin!(answer.into_body());
        poll_fn(|cx| match writer.poll(self.wire, body.as_mut(), cx) {
            Poll::Ready(Ok(())) => Poll::Ready(Ok(())),
            Poll::Ready(Err(write::WriteError::Io(_))) => Poll::Ready(Err("its caller left before its answer was whole")),
            Poll::Ready(Err(write::WriteError::Body(error))) => {
                tracing::debug!(%error, "an answer broke off");
                Poll::Ready(Err("its answer broke off"))
            }
            Poll::Ready(Err(write::WriteError::Length)) => Poll::Ready(Err("its answer was not as long as its head said")),
            Poll::Pending => self.poll_gone(cx).map(|()| Err("its caller left before its answer was whole")),
        })
        .await
    }

    /// Ready when the caller has gone while its call is under way. What it asks meanwhile is kept, within bounds.
    fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        let is_read = self.wire.with(|inner| {
            let inbound = &mut inner.inbound;
            let is_read = inbound.has_reader && inbound.decoder != super::decode::Decoder::Ended;
            if is_read {
                // Its reader sees the caller go, and says when there is nothing more to read.
                note(&mut inbound.waits, cx);
            }
            is_read
        });
        while !is_read && self.wire.with(|inner| !inner.eof && inner.read.len() < MAX_HEAD_BYTES) {
            match std::task::ready!(self.wire.poll_more(cx)) {
                Ok(()) => (),
                Err(_) => return Poll::Ready(()),
            }
        }
        if self.wire.with(|inner| inner.eof) && !is_read { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Ready when the request's body is whole, or nobody reads on.
    fn poll_reader(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.wire.with(|inner| {
            let inbound = &mut inner.inbound;
            if !inbound.has_reader || inbound.decoder == super::decode::Decoder::Ended {
                return Poll::Ready(());
            }
            note(&mut inbound.waits, cx);
            Poll::Pending
        })
    }

    /// Answers what is no request, and ends the connection.
    async fn refuse(&self, failure: Failure) -> &'static str {
        let core = self.core;
        core.metrics.failed(&failure);
        let request_id = core.request_id();
        if let Some(observed) = core.shared.observer.refused(&core.trace_ids, &request_id, self.peer, core.now()) {
            observed.problem(failure.slug());
            observed.answered(failure.status().as_u16());
        }
        let index = core.index();
        let about = About { request_id: request_id.to_str().unwrap_or_default(), upgrade_url: &index.settings.upgrade_url, is_grpc: false };
        let mut answer = failure.into_response(about);
        answer.headers_mut().insert(pipeline::headers::X_REQUEST_ID, request_id);
        let mut asked = write::Asked { is_head: false, version: Version::HTTP_11, takes_trailers: false, keep_alive: false };
        if self.send(answer, None, &mut asked).await.is_ok() {
            let _ = poll_fn(|cx| self.wire.poll_shutdown(cx)).await;
        }
        "what was sent on it is no request"
    }
}

fn note(place: &mut Option<Waker>, cx: &Context<'_>) {
    if !place.as_ref().is_some_and(|held| held.will_wake(cx.waker())) {
        *place = Some(cx.waker().clone());
    }
}

fn refusal(error: &Error) -> Failure {
    match error {
        Error::HeadTooLarge => Failure::HeadTooLarge,
        Error::Malformed(what) => Failure::NotHttp(what),
        Error::Io(_) | Error::Closed => Failure::NotHttp("the connection was closed"),
    }
}
