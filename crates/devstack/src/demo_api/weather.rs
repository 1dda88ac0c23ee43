//! A REST API with several operations.

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use calendar::{TimeZone, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Shared, problem, wave};

/// City, latitude, longitude.
const CITIES: [(&str, f64, f64); 12] = [
    ("amsterdam", 52.37, 4.90),
    ("berlin", 52.52, 13.41),
    ("helsinki", 60.17, 24.94),
    ("lisbon", 38.72, -9.14),
    ("london", 51.51, -0.13),
    ("nairobi", -1.29, 36.82),
    ("new-york", 40.71, -74.01),
    ("oslo", 59.91, 10.75),
    ("sao-paulo", -23.55, -46.63),
    ("singapore", 1.35, 103.82),
    ("sydney", -33.87, 151.21),
    ("tokyo", 35.68, 139.69),
];
const CONDITIONS: [&str; 6] = ["clear", "partly cloudy", "cloudy", "light rain", "rain", "snow"];
const SECONDS_PER_DAY: i64 = 86_400;

pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/v1/cities", get(cities))
        .route("/v1/current/{city}", get(current))
        .route("/v1/forecast", get(forecast))
        .route("/v1/alerts/{city}", get(alerts))
}

#[derive(Serialize)]
struct City {
    name: &'static str,
    latitude: f64,
    longitude: f64,
}

#[derive(Deserialize)]
struct ForecastQuery {
    city: Option<String>,
    days: Option<u8>,
}

fn find(name: &str) -> Result<City, Box<Response>> {
    CITIES
        .iter()
        .find(|(city, ..)| city.eq_ignore_ascii_case(name))
        .map(|(name, latitude, longitude)| City { name, latitude: *latitude, longitude: *longitude })
        .ok_or_else(|| Box::new(problem(StatusCode::NOT_FOUND, "This city is not covered. GET /v1/cities lists those that are.")))
}

/// Warmer at the equator, cooler at night and in winter, and a little different every hour.
fn temperature(city: &City, at: Timestamp) -> f64 {
    let base = 28.0 - city.latitude.abs() * 0.45;
    let local_hour = (at.seconds() as f64 / 3600.0 + city.longitude / 15.0).rem_euclid(24.0);
    let day_of_year = (at.seconds() as f64 / SECONDS_PER_DAY as f64).rem_euclid(365.25);
    let daily = ((local_hour - 9.0) / 24.0 * std::f64::consts::TAU).sin() * 4.0;
    let seasonal = ((day_of_year - 110.0) / 365.25 * std::f64::consts::TAU).sin() * city.latitude / 6.0;
    let noise = (wave(city.name, at.seconds() as u64 / 3600) - 0.5) * 3.0;
    ((base + daily + seasonal + noise) * 10.0).round() / 10.0
}

fn condition(city: &City, at: Timestamp) -> &'static str {
    let wet = wave(city.name, at.seconds() as u64 / 10_800 + 7);
    match CONDITIONS[(wet * 5.0) as usize] {
        "light rain" | "rain" if temperature(city, at) < 0.0 => CONDITIONS[5],
        condition => condition,
    }
}

async fn cities() -> Json<serde_json::Value> {
    let cities: Vec<City> =
        CITIES.iter().map(|(name, latitude, longitude)| City { name, latitude: *latitude, longitude: *longitude }).collect();
    Json(json!({ "cities": cities }))
}

async fn current(State(shared): State<Shared>, Path(city): Path<String>) -> Response {
    let city = match find(&city) {
        Ok(city) => city,
        Err(response) => return *response,
    };
    let now = shared.clock.now();
    Json(json!({
        "city": city.name,
        "observed_at": now,
        "temperature_c": temperature(&city, now),
        "humidity_percent": 40 + (wave(city.name, now.seconds() as u64 / 3600 + 1) * 50.0) as u32,
        "wind_kmh": (wave(city.name, now.seconds() as u64 / 3600 + 2) * 400.0).round() / 10.0,
        "condition": condition(&city, now),
    }))
    .into_response()
}

async fn forecast(State(shared): State<Shared>, Query(query): Query<ForecastQuery>) -> Response {
    let Some(name) = query.city else {
        return problem(StatusCode::BAD_REQUEST, "The query parameter `city` is missing, for example ?city=oslo.");
    };
    let days = query.days.unwrap_or(7);
    if !(1..=16).contains(&days) {
        return problem(StatusCode::BAD_REQUEST, "The query parameter `days` must be between 1 and 16.");
    }
    let city = match find(&name) {
        Ok(city) => city,
        Err(response) => return *response,
    };
    let today = shared.clock.now().seconds().div_euclid(SECONDS_PER_DAY);
    let forecast: Vec<_> = (0..i64::from(days))
        .map(|day| {
            let at = |hour: i64| Timestamp::from_seconds((today + day) * SECONDS_PER_DAY + hour * 3600);
            let hours: Vec<f64> = (0..24).map(|hour| temperature(&city, at(hour))).collect();
            json!({
                "date": TimeZone::UTC.date_at(at(0)).to_string(),
                "low_c": hours.iter().copied().fold(f64::INFINITY, f64::min),
                "high_c": hours.iter().copied().fold(f64::NEG_INFINITY, f64::max),
                "condition": condition(&city, at(12)),
                "precipitation_percent": (wave(city.name, (today + day) as u64 + 3) * 100.0) as u32,
            })
        })
        .collect();
    Json(json!({ "city": city, "days": forecast })).into_response()
}

async fn alerts(State(shared): State<Shared>, Path(city): Path<String>) -> Response {
    let city = match find(&city) {
        Ok(city) => city,
        Err(response) => return *response,
    };
    let now = shared.clock.now();
    let wind = wave(city.name, now.seconds() as u64 / 3600 + 2) * 40.0;
    let alerts =
        if wind > 30.0 { vec![json!({ "kind": "wind", "severity": "moderate", "text": "Strong wind is expected." })] } else { vec![] };
    Json(json!({ "city": city.name, "alerts": alerts })).into_response()
}
