//! Mixed traffic of a payments service: three kinds of reads, and writes beside them, at a fixed rate.
//!
//! ```text
//! cargo run --release -p florin-shadow --example traffic -- http://127.0.0.1:7600 --requests 1000000 --rate 4000 --writes 1000
//! ```
//!
//! Half of the reads are balances, three in ten statistics, two in ten batches of 2 to 20 users; one in a hundred asks
//! about a user whom nobody knows. Writes are recharges and gifts, twenty-five to a request, of users that are read as
//! well: `POST /v1/transactions`, to the same address unless --writes-to names another. `scripts/shadow-million` runs it.

use std::env;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::Semaphore;

/// Requests under way at a time, at most: a server that falls behind is not buried.
const IN_FLIGHT_MAX: usize = 256;
/// Transactions of one write.
const WRITE_TRANSACTIONS: u64 = 25;

/// What the command line says.
struct Settings {
    target: String,
    writes_to: String,
    requests: u64,
    rate: f64,
    writes: u64,
    users: u64,
    seed: u64,
}

#[derive(Default)]
struct Tally {
    answered: AtomicU64,
    failed: AtomicU64,
    written: AtomicU64,
    writes_failed: AtomicU64,
}

type Http = Client<HttpConnector, Full<Bytes>>;

fn main() -> ExitCode {
    let settings = match parse(env::args().skip(1)) {
        Ok(settings) => Arc::new(settings),
        Err(why) => {
            eprintln!("traffic: {why}");
            return ExitCode::from(2);
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let tally = Arc::new(Tally::default());
    let started = Instant::now();
    runtime.expect("a runtime").block_on(run(settings, Arc::clone(&tally)));
    let [answered, failed, written, writes_failed] =
        [&tally.answered, &tally.failed, &tally.written, &tally.writes_failed]
            .map(|count| count.load(Ordering::Relaxed));
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "{answered} answered, {failed} failed in {seconds:.1} s ({:.0} a second); {written} transactions written ({:.0} a second), {writes_failed} writes failed",
        answered as f64 / seconds,
        written as f64 / seconds
    );
    if failed + writes_failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Settings, String> {
    let target = arguments.next().filter(|target| target.starts_with("http://"));
    let target = target.ok_or("expected http://HOST:PORT first")?;
    let mut settings = Settings {
        writes_to: target.clone(),
        target,
        requests: 100_000,
        rate: 2_000.0,
        writes: 0,
        users: 16_384,
        seed: 7,
    };
    while let Some(flag) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{flag}: expected a value"))?;
        let number = || value.parse::<u64>().map_err(|error| format!("{flag} {value}: {error}"));
        match flag.as_str() {
            "--requests" => settings.requests = number()?,
            "--rate" => settings.rate = number()? as f64,
            "--writes" => settings.writes = number()?,
            "--users" => settings.users = number()?,
            "--seed" => settings.seed = number()?,
            "--writes-to" => settings.writes_to = value,
            _ => {
                return Err(format!(
                    "{flag}: expected --requests, --rate, --writes, --writes-to, --users or --seed"
                ));
            }
        }
    }
    Ok(settings)
}

async fn run(settings: Arc<Settings>, tally: Arc<Tally>) {
    let http: Http = Client::builder(TokioExecutor::new()).build_http();
    let writer = tokio::spawn(write(Arc::clone(&settings), Arc::clone(&tally), http.clone()));
    let permits = Arc::new(Semaphore::new(IN_FLIGHT_MAX));
    let mut random = StdRng::seed_from_u64(settings.seed);
    let started = Instant::now();
    for number in 0..settings.requests {
        let due = started + Duration::from_secs_f64(number as f64 / settings.rate);
        // Below a timer's resolution several go out together, as they do in life.
        if due > Instant::now() + Duration::from_millis(1) {
            tokio::time::sleep_until(due.into()).await;
        }
        let permit = Arc::clone(&permits).acquire_owned().await.expect("the semaphore is never closed");
        let (http, tally) = (http.clone(), Arc::clone(&tally));
        let request = read(&settings, &mut random);
        tokio::spawn(async move {
            let is_ok = ask(&http, request).await.is_some_and(|status| status == 200 || status == 404);
            let count = if is_ok { &tally.answered } else { &tally.failed };
            count.fetch_add(1, Ordering::Relaxed);
            drop(permit);
        });
    }
    let _ = permits.acquire_many(IN_FLIGHT_MAX as u32).await;
    writer.abort();
}

async fn ask(http: &Http, request: Request<Full<Bytes>>) -> Option<u16> {
    let response = http.request(request).await.ok()?;
    let status = response.status().as_u16();
    response.into_body().collect().await.ok()?;
    Some(status)
}

fn read(settings: &Settings, random: &mut StdRng) -> Request<Full<Bytes>> {
    let user = |random: &mut StdRng| {
        let is_unknown = random.random_bool(0.01);
        random.random_range(0..settings.users) + if is_unknown { 1 << 40 } else { 0 }
    };
    let windows = ["", "?window=24h", "?window=24h,7d", "?window=30d,lifetime"];
    let target = &settings.target;
    let request = Request::builder();
    let request = match random.random_range(0..10) {
        0..5 => request.uri(format!("{target}/v1/users/{}/balance", user(random))).body(Full::default()),
        5..8 => {
            let windows = windows[random.random_range(0..windows.len())];
            request
                .uri(format!("{target}/v1/users/{}/statistics{windows}", user(random)))
                .body(Full::default())
        }
        _ => {
            let count = random.random_range(2..=20);
            let ids: Vec<String> = (0..count).map(|_| format!("\"{}\"", user(random))).collect();
            let body = format!("{{\"user_ids\":[{}]}}", ids.join(","));
            let request = request.method(Method::POST).header(header::CONTENT_TYPE, "application/json");
            request.uri(format!("{target}/v1/balances:batchGet")).body(Full::from(body))
        }
    };
    request.expect("a request of plain parts")
}

/// Appends transactions until it is aborted.
async fn write(settings: Arc<Settings>, tally: Arc<Tally>, http: Http) {
    if settings.writes == 0 {
        return;
    }
    let mut random = StdRng::seed_from_u64(settings.seed ^ 1);
    let mut ticks =
        tokio::time::interval(Duration::from_secs_f64(WRITE_TRANSACTIONS as f64 / settings.writes as f64));
    loop {
        ticks.tick().await;
        let now = jiff::Timestamp::now();
        let transactions: Vec<String> = (0..WRITE_TRANSACTIONS)
            .map(|_| {
                let id: u128 = random.random();
                let id = format!("{id:032x}");
                let kind = ["recharge", "gift_received", "gift_sent", "hold"][random.random_range(0..4)];
                let (user, amount) = (random.random_range(0..settings.users), random.random_range(1..500));
                format!(
                    r#"{{"transaction_id":"{}-{}-4{}-8{}-{}","user_id":"{user}","asset":"COIN","kind":"{kind}","amount":"{amount}","occurred_at":"{now:.6}"}}"#,
                    &id[..8], &id[8..12], &id[13..16], &id[17..20], &id[20..]
                )
            })
            .collect();
        let request = Request::post(format!("{}/v1/transactions", settings.writes_to))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::from(format!("[{}]", transactions.join(","))))
            .expect("a request of plain parts");
        match ask(&http, request).await {
            Some(200..=299) => tally.written.fetch_add(WRITE_TRANSACTIONS, Ordering::Relaxed),
            _ => tally.writes_failed.fetch_add(1, Ordering::Relaxed),
        };
    }
}
