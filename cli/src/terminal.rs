//! What the person at the terminal sees. Only this module prints.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "printing is what this module is for")]

use std::{
    fmt,
    io::{IsTerminal, Write},
    time::{Duration, Instant},
};

/// One step of something that takes a while: its line is written when it starts and completed when it ends.
#[derive(Debug)]
pub struct Step {
    started: Instant,
}

fn colored() -> bool {
    #[allow(clippy::disallowed_methods, reason = "whether to color is a setting of this module (no-color.org)")]
    let plain = std::env::var_os("NO_COLOR").is_some();
    std::io::stdout().is_terminal() && !plain
}

/// Text in bold where the terminal can.
pub fn bold(text: impl fmt::Display) -> String {
    if colored() { format!("\x1b[1m{text}\x1b[0m") } else { text.to_string() }
}

/// Text in a quiet color where the terminal can.
pub fn dim(text: impl fmt::Display) -> String {
    if colored() { format!("\x1b[2m{text}\x1b[0m") } else { text.to_string() }
}

/// A line.
pub fn line(text: impl fmt::Display) {
    println!("{text}");
}

/// Starts a step.
pub fn step(what: impl fmt::Display) -> Step {
    print!("  {what:<38}");
    // A terminal that went away is noticed when the step ends.
    let _ = std::io::stdout().flush();
    Step { started: Instant::now() }
}

impl Step {
    /// The step has ended well.
    pub fn done(self, note: impl fmt::Display) {
        println!("ready in {} {}", short(self.started.elapsed()), dim(note));
    }

    /// The step has failed; the error follows.
    pub fn failed(self) {
        println!("failed");
    }
}

/// A duration for people.
pub fn short(duration: Duration) -> String {
    if duration < Duration::from_secs(10) { format!("{:.1} s", duration.as_secs_f32()) } else { format!("{} s", duration.as_secs()) }
}

/// The last words of a command that failed.
pub fn failure(error: &anyhow::Error) {
    eprintln!("tollkeeper: {error:#}");
}

/// Asks a question that `yes` answers.
pub fn confirm(question: &str) -> std::io::Result<bool> {
    print!("{question} Type yes to go on: ");
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(answer.trim() == "yes")
}
