//! Lets the core's timer end an HTTP/2 stream whose caller gives it no window: such a stream waits inside the HTTP layer, where nothing that the
//! pipeline could say reaches it. Each stream's task is wrapped so that it can be dropped, which resets the stream and no other.

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    pin::pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

/// Ends the task that carries a stream. Clones share one line.
#[derive(Debug, Clone, Default)]
pub struct Lifeline(Rc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    cut: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

thread_local! {
    /// The line of the task that is being polled on this core.
    static CURRENT: RefCell<Option<Lifeline>> = const { RefCell::new(None) };
}

impl Lifeline {
    /// Ends the task, which drops what it carries.
    pub fn cut(&self) {
        self.0.cut.set(true);
        if let Some(waker) = self.0.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// The line of the stream whose task is running now; none where a call has its connection's task.
    pub fn current() -> Option<Self> {
        CURRENT.with_borrow(Clone::clone)
    }

    /// Ready once the line is cut.
    pub fn poll_cut(&self, cx: &Context<'_>) -> Poll<()> {
        if self.0.cut.get() {
            return Poll::Ready(());
        }
        let mut held = self.0.waker.borrow_mut();
        if !held.as_ref().is_some_and(|held| held.will_wake(cx.waker())) {
            *held = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

/// Runs a stream's task until it ends or its line is cut.
pub async fn carry(task: impl Future) {
    let line = Lifeline::default();
    let mut task = pin!(task);
    poll_fn(|cx| {
        CURRENT.set(Some(line.clone()));
        let polled = task.as_mut().poll(cx).map(drop);
        CURRENT.set(None);
        if polled.is_ready() { polled } else { line.poll_cut(cx) }
    })
    .await;
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[tokio::test]
    async fn a_task_ends_when_its_line_is_cut() {
        let taken = Rc::new(RefCell::new(None));
        let place = taken.clone();
        let carried = carry(async move {
            *place.borrow_mut() = Lifeline::current();
            pending::<()>().await;
        });
        let cutting = async {
            assert!(Lifeline::current().is_none(), "only the task has a line");
            tokio::task::yield_now().await;
            taken.borrow().as_ref().expect("the task ran").cut();
        };
        tokio::join!(carried, cutting);
        assert_eq!(Rc::strong_count(&taken), 1, "what the task held was dropped");
    }
}
