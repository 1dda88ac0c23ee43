//! The calls of a question, read once and cut in every way that a page shows them. Pure.

use std::collections::HashMap;

use calendar::Timestamp;
use ids::RouteId;

use super::{
    figures::{RouteTotal, Series, SeriesGroup, Share, Stack},
    query::Slot,
    query_store::{Cell, RouteName},
};

/// The calls of every slot, route and status.
#[derive(Debug)]
pub(super) struct Calls {
    pub slot: Slot,
    pub starts: Vec<Timestamp>,
    pub cells: Vec<Cell>,
    pub routes: HashMap<RouteId, RouteName>,
}

impl Calls {
    /// Calls over time.
    pub(super) fn series(&self, stack: Stack) -> Series {
        let mut groups: Vec<SeriesGroup> = Vec::new();
        for cell in &self.cells {
            let (key, label) = match stack {
                Stack::Api => match self.routes.get(&cell.route) {
                    Some(route) => (route.slug.clone(), route.product.clone()),
                    None => continue,
                },
                Stack::Status => (format!("{}xx", cell.status / 100), class_label(cell.status / 100).to_owned()),
            };
            let index = groups.iter().position(|group| group.key == key).unwrap_or_else(|| {
                groups.push(SeriesGroup { key, label, calls: vec![0; self.starts.len()] });
                groups.len() - 1
            });
            // Slots and cells are cut by the same expression, so that a cell always has its slot.
            if let Ok(slot) = self.starts.binary_search(&cell.slot) {
                groups[index].calls[slot] += cell.calls;
            }
        }
        groups.sort_by(|one, two| match stack {
            Stack::Api => two.calls.iter().sum::<i64>().cmp(&one.calls.iter().sum()).then_with(|| one.label.cmp(&two.label)),
            Stack::Status => one.key.cmp(&two.key),
        });
        Series { slot: self.slot, starts: self.starts.clone(), groups }
    }

    /// Calls per API product, the busiest first.
    pub(super) fn by_product(&self) -> Vec<Share> {
        let mut products: HashMap<&str, Share> = HashMap::new();
        for (cell, route) in self.cells.iter().filter_map(|cell| Some((cell, self.routes.get(&cell.route)?))) {
            let new = || Share { key: route.slug.clone(), label: route.product.clone(), calls: 0 };
            products.entry(&route.slug).or_insert_with(new).calls += cell.calls;
        }
        let mut shares: Vec<Share> = products.into_values().collect();
        shares.sort_by(|one, two| two.calls.cmp(&one.calls).then_with(|| one.label.cmp(&two.label)));
        shares
    }

    /// Calls per exact status, in their order.
    pub(super) fn by_status(&self) -> Vec<Share> {
        let mut statuses = std::collections::BTreeMap::new();
        for cell in &self.cells {
            *statuses.entry(cell.status).or_default() += cell.calls;
        }
        let reason = |status: i16| {
            let status = u16::try_from(status).ok().and_then(|status| http::StatusCode::from_u16(status).ok());
            status.and_then(|status| status.canonical_reason()).unwrap_or("Unnamed")
        };
        statuses
            .into_iter()
            .map(|(status, calls)| Share { key: status.to_string(), label: format!("{status} {}", reason(status)), calls })
            .collect()
    }

    /// The busiest routes.
    pub(super) fn top_routes(&self, limit: usize) -> Vec<RouteTotal> {
        let mut totals: HashMap<RouteId, RouteTotal> = HashMap::new();
        for (cell, route) in self.cells.iter().filter_map(|cell| Some((cell, self.routes.get(&cell.route)?))) {
            let new = || RouteTotal {
                route: route.route,
                product: route.product.clone(),
                method: route.method.clone(),
                path: route.path.clone(),
                calls: 0,
                errors: 0,
            };
            let total = totals.entry(cell.route).or_insert_with(new);
            total.calls += cell.calls;
            total.errors += if cell.status >= 400 { cell.calls } else { 0 };
        }
        let mut totals: Vec<RouteTotal> = totals.into_values().collect();
        totals.sort_by(|one, two| two.calls.cmp(&one.calls).then_with(|| one.path.cmp(&two.path)));
        totals.truncate(limit);
        totals
    }
}

/// What a class of statuses says to people.
fn class_label(class: i16) -> &'static str {
    match class {
        1 => "1xx Streams",
        2 => "2xx Success",
        3 => "3xx Redirects",
        4 => "4xx Client errors",
        5 => "5xx Server errors",
        _ => "Other",
    }
}
