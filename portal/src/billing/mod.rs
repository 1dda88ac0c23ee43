//! Periods, rated and turned into invoices. Invariants: `README.md`.

pub mod account;
mod account_store;
pub mod charges;
pub mod close;
pub mod correction;
pub mod invoice;
pub mod job;
pub mod late;
mod late_store;
pub mod preview;
pub mod rerate;
mod rerate_store;
mod state;
mod store;
pub mod subscription;
mod subscription_store;

pub use account::{Account, account, accounts};
pub use charges::Charge;
pub use close::{COLLECTION_CUTOFF, Closed, PAYMENT_TERM, close_next};
pub use correction::{CorrectUsage, Effect};
pub use invoice::{Invoice, InvoiceFilter, InvoiceKind, InvoiceLine, InvoicePage};
pub use late::LateCharge;
pub use preview::{Preview, preview, previews};
pub use state::InvoiceState;
pub use subscription::BilledSubscription;
