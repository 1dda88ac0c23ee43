//! The tokens that an answer's body tells, on their way into what is recorded.

use super::Exchange;
use crate::pipeline::tokens::{Figures, TokenReader};

impl Exchange {
    /// What reads the tokens in the answer's body: once, and only where a meter needs it and the head says that it can be read.
    pub fn token_reader(&self) -> Option<Box<TokenReader>> {
        self.0.state.borrow_mut().units.token_reader.take()
    }

    /// The answer's body has told how many tokens were used so far.
    pub fn tokens(&self, figures: Figures) {
        **self.0.state.borrow_mut().units.tokens.get_or_insert_default() = figures;
    }
}
