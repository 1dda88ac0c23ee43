//! Stories on the real stack.
