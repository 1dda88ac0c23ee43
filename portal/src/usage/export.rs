//! Usage as CSV (RFC 4180), a calendar day at a time: each day is a short statement of its own, so that neither a long range nor a slow reader holds a
//! transaction open.

use std::fmt::Write as _;

use bytes::Bytes;
use calendar::Period;
use futures_util::{Stream, stream};
use sqlx::PgPool;

use super::{
    query::Query,
    query_store::{self as store, Bounds, ExportRow},
};
use crate::{
    error::{Error, Result},
    identity::{Actor, Permission},
};

/// The first line of an export.
const HEADER: &str = "start,api,method,path,application,key,key_hint,plan,status,mode,meter,unit,calls,units,billable_units\r\n";
/// An export may be longer than what pages show at once, but not without bound.
const MAX_SLICES: usize = 401;

/// The rows of a question as CSV: one line a slot, key, route, status, mode and meter. Lines of different meters of one route are about the same calls.
pub fn csv(pool: PgPool, actor: &Actor, query: Query) -> Result<impl Stream<Item = Result<Bytes>> + Send + use<>> {
    actor.require(Permission::View(query.tenant))?;
    query.check()?;
    let slices = day_slices(&query);
    let head = stream::once(async { Ok(Bytes::from_static(HEADER.as_bytes())) });
    let body = stream::try_unfold((pool, query, slices.into_iter()), async |(pool, query, mut slices)| {
        let Some(slice) = slices.next() else { return Ok::<_, Error>(None) };
        let mut tx = pool.begin().await?;
        let bounds = Bounds { from: slice.from, to: slice.to, ..query.bounds() };
        let rows = store::export(&mut tx, &bounds).await?;
        tx.commit().await?;
        Ok(Some((lines(&rows), (pool, query, slices))))
    });
    Ok(futures_util::StreamExt::chain(head, body))
}

/// The range cut at the midnights of the tenant's zone.
fn day_slices(query: &Query) -> Vec<Period> {
    let mut slices = Vec::new();
    let mut from = query.from();
    while from < query.range.to && slices.len() < MAX_SLICES {
        let tomorrow = query.zone.date_at(from).tomorrow().map_or(query.range.to, |date| query.zone.start_of(date));
        let to = tomorrow.min(query.range.to);
        slices.push(Period { from, to });
        from = to;
    }
    slices
}

fn lines(rows: &[ExportRow]) -> Bytes {
    let mut text = String::with_capacity(rows.len() * 160);
    for row in rows {
        let _ = write!(text, "{},{},{},", row.slot, row.product, row.method);
        for name in [&row.path, &row.application, &row.key_name] {
            field(&mut text, name);
            text.push(',');
        }
        field(&mut text, &row.key_hint);
        let _ = write!(
            text,
            ",{},{},{},{},{},{},{},{}\r\n",
            row.plan,
            row.status,
            row.mode,
            row.meter,
            Field(&row.unit),
            row.calls,
            row.units,
            row.billable
        );
    }
    text.into()
}

struct Field<'a>(&'a str);

impl std::fmt::Display for Field<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = String::new();
        field(&mut text, self.0);
        f.write_str(&text)
    }
}

/// A name that a person chose. Quoted where RFC 4180 asks for it; where a spreadsheet would read it as a formula, an apostrophe keeps it text.
fn field(out: &mut String, value: &str) {
    let formula = value.starts_with(['=', '+', '-', '@', '\t', '\r']);
    if !formula && !value.contains([',', '"', '\n', '\r']) {
        out.push_str(value);
        return;
    }
    out.push('"');
    if formula {
        out.push('\'');
    }
    out.push_str(&value.replace('"', "\"\""));
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_quoted_as_rfc_4180_says_and_never_formulas() {
        for (value, written) in [
            ("Backend", "Backend"),
            ("a,b", "\"a,b\""),
            ("say \"hi\"", "\"say \"\"hi\"\"\""),
            ("two\r\nlines", "\"two\r\nlines\""),
            ("=1+1", "\"'=1+1\""),
            ("@sum", "\"'@sum\""),
            ("", ""),
        ] {
            let mut out = String::new();
            field(&mut out, value);
            assert_eq!(out, written);
        }
    }
}
