//! The error of every operation, without a transport: pages and REST turn it into their own answer at one place each.

use std::{borrow::Cow, fmt};

/// What kind of failure it is; an edge maps it to its own status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The input is wrong; the fields say where.
    Invalid,
    /// Nobody is signed in, or the credential is wrong.
    Unauthenticated,
    /// Signed in, but not allowed.
    Forbidden,
    /// It does not exist, or not for this actor.
    NotFound,
    /// It contradicts what is there.
    Conflict,
    /// The input is larger than what is read.
    TooLarge,
    /// Too many attempts; try again after so many seconds.
    TooManyAttempts {
        /// Seconds to wait.
        retry_after: u64,
    },
    /// A dependency is away.
    Unavailable,
    /// A defect of ours.
    Internal,
}

/// Which field of the input is wrong, and how to mend it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct FieldError {
    /// The field's name, as the form and the REST body have it.
    pub field: Cow<'static, str>,
    /// A whole sentence for the person who filled it in.
    pub message: String,
}

/// An operation's failure.
pub struct Error {
    /// What kind of failure.
    pub kind: Kind,
    /// A whole sentence that may be shown to anybody.
    pub public: Cow<'static, str>,
    /// The fields at fault.
    pub fields: Vec<FieldError>,
    /// What the log gets, and nobody else.
    pub internal: Option<anyhow::Error>,
}

/// The result of every operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A failure with a sentence for people.
    pub fn new(kind: Kind, public: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, public: public.into(), fields: Vec::new(), internal: None }
    }

    /// One field is wrong.
    pub fn invalid(field: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, "Please correct the marked fields.").with_field(field, message)
    }

    /// It does not exist, or not for this actor. `what` is a noun: "This API key".
    pub fn not_found(what: &'static str) -> Self {
        Self::new(Kind::NotFound, format!("{what} does not exist."))
    }

    /// It contradicts what is there.
    pub fn conflict(public: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::Conflict, public)
    }

    /// The actor may not do this.
    pub fn forbidden() -> Self {
        Self::new(Kind::Forbidden, "You are not allowed to do this.")
    }

    /// A defect of ours, or a failure that no caller can mend.
    pub fn internal(error: impl Into<anyhow::Error>) -> Self {
        Self { internal: Some(error.into()), ..Self::new(Kind::Internal, "Something went wrong on our side. It has been logged.") }
    }

    /// Names one more field.
    #[must_use]
    pub fn with_field(mut self, field: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        self.fields.push(FieldError { field: field.into(), message: message.into() });
        self
    }

    /// What a form shows at a field; empty if nothing is wrong with it.
    pub fn at(&self, name: &str) -> &str {
        self.field(name).unwrap_or_default()
    }

    /// What a form shows above its fields.
    pub fn summary(&self) -> &str {
        &self.public
    }

    /// What a form shows at a field.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|error| error.field == name).map(|error| error.message.as_str())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.public)?;
        for field in &self.fields {
            write!(f, " [{}: {}]", field.field, field.message)?;
        }
        self.internal.as_ref().map_or(Ok(()), |internal| write!(f, " ({internal:?})"))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.public)
    }
}

impl std::error::Error for Error {}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::Io(_) => Self {
                internal: Some(error.into()),
                ..Self::new(Kind::Unavailable, "The database cannot be reached right now. Please try again in a moment.")
            },
            other => Self::internal(other),
        }
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self::internal(error)
    }
}
