//! What few answers need beside their metering: a deadline, the form of gRPC, tokens read from the body. An answer that needs none of them has none.

use std::{
    future::Future as _,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;
use journal::Outcome;
use tokio::time::{Instant, Sleep, sleep_until};

use super::{
    body::AnswerError,
    grpc::{self, Code, MessageCounter},
    meter::{Exchange, Stop},
    tokens::TokenReader,
};

/// What few answers need.
#[derive(Debug, Default)]
pub struct Extras {
    deadline: Option<Pin<Box<Sleep>>>,
    grpc: Option<MessageCounter>,
    tokens: Option<Box<TokenReader>>,
    /// The gateway has ended the answer; nothing follows.
    finished: bool,
}

/// How an answer ends that the gateway ends: with trailers that say why where the protocol has them, else with a reset.
type End = Option<Result<Frame<Bytes>, AnswerError>>;

impl Extras {
    /// For a call with a deadline, of gRPC, metered by tokens, or none of that.
    pub fn new(deadline: Option<Instant>, is_grpc: bool, tokens: Option<Box<TokenReader>>) -> Option<Box<Self>> {
        let needed = deadline.is_some() || is_grpc || tokens.is_some();
        needed.then(|| {
            let deadline = deadline.map(|at| Box::pin(sleep_until(at)));
            Box::new(Self { deadline, grpc: is_grpc.then(MessageCounter::default), tokens, finished: false })
        })
    }

    /// Whether the gateway has ended the answer.
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// Whether the deadline is over; else the task is woken when it is.
    pub fn is_late(&mut self, cx: &mut Context<'_>) -> bool {
        self.deadline.as_mut().is_some_and(|deadline| matches!(deadline.as_mut().poll(cx), Poll::Ready(())))
    }

    /// Bytes of the answer are handed on.
    pub fn passed(&mut self, data: &[u8], exchange: &Exchange) {
        if let Some(counter) = &mut self.grpc {
            let messages = counter.take(data);
            if messages > 0 {
                exchange.messages(messages);
            }
        }
        if let Some(figures) = self.tokens.as_mut().and_then(|tokens| tokens.take(data)) {
            exchange.tokens(figures);
        }
    }

    /// The upstream's answer is whole, with trailers or without. A gRPC call ends with a code; one without has failed.
    pub fn outcome(&self, trailers: Option<&HeaderMap>, exchange: &Exchange) -> Outcome {
        match (&self.grpc, trailers) {
            (Some(_), Some(trailers)) => exchange.ended_with(Code::read(trailers).unwrap_or(Code::UNKNOWN)),
            // The code stood in the head, or nowhere.
            (Some(_), None) if !exchange.has_code() => exchange.ended_with(Code::UNKNOWN),
            _ => Outcome::Complete,
        }
    }

    /// The deadline is over.
    pub fn expire(&mut self, exchange: &Exchange) -> End {
        self.finish(exchange, Code::DEADLINE_EXCEEDED, "the deadline is over").unwrap_or(Some(Err(AnswerError::TimedOut)))
    }

    /// The upstream broke off.
    pub fn broken(&mut self, exchange: &Exchange, error: AnswerError) -> End {
        self.finish(exchange, Code::UNAVAILABLE, "the API broke off").unwrap_or(Some(Err(error)))
    }

    /// The gateway wants the exchange to end. What was revoked is reset; the rest is told.
    pub fn stopped(&mut self, exchange: &Exchange, stop: Stop) -> End {
        let told = match stop {
            Stop::Revoked => None,
            Stop::QuotaUsedUp => self.finish(exchange, Code::RESOURCE_EXHAUSTED, "the quota is used up"),
            Stop::Draining => self.finish(exchange, Code::UNAVAILABLE, "the gateway is stopping"),
            Stop::Idle => self.finish(exchange, Code::UNAVAILABLE, "nothing passed for too long"),
            Stop::Overdue => self.finish(exchange, Code::DEADLINE_EXCEEDED, "the call took too long"),
        };
        told.unwrap_or_else(|| Some(Err(AnswerError::stopped(stop))))
    }

    fn finish(&mut self, exchange: &Exchange, code: Code, message: &str) -> Option<End> {
        self.grpc.as_ref()?;
        self.finished = true;
        exchange.ended_with(code);
        Some(Some(Ok(Frame::trailers(grpc::trailers(code, message)))))
    }
}
