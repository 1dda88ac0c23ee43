//! Periods, rated and turned into invoices. Invariants: `README.md`.

pub mod account;
mod account_store;
pub mod charges;
pub mod close;
pub mod invoice;
pub mod job;
pub mod preview;
mod state;
mod store;
pub mod subscription;
mod subscription_store;

pub use account::{Account, account, accounts};
pub use charges::Charge;
pub use close::{COLLECTION_CUTOFF, Closed, PAYMENT_TERM, close_next};
pub use invoice::{Invoice, InvoiceFilter, InvoiceLine, InvoicePage};
pub use preview::{Preview, preview, previews};
pub use state::InvoiceState;
pub use subscription::BilledSubscription;
