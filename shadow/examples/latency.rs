//! What callers wait at several addresses of one service, asked the same questions in the same moments.
//!
//! ```text
//! cargo run --release -p florin-shadow --example latency -- around=127.0.0.1:7500 through=127.0.0.1:7600 --rate 500 --seconds 8
//! ```
//!
//! Each question goes to every address once, one after the other in an order that chance decides, on connections that stay
//! open: whatever else happens on the machine, happens to all of them alike. The rate is that of questions; a question that
//! is due while another is being asked waits for it, and that wait counts for nobody. `scripts/shadow-latency` runs it.

use std::env;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

/// Whoever takes longer than this has not answered.
const PATIENCE: Duration = Duration::from_secs(10);
/// Questions asked before any is counted.
const WARM_UP: usize = 200;

struct Settings {
    addresses: Vec<(String, String)>,
    rate: f64,
    seconds: f64,
    users: u64,
}

/// One address, and how long it took.
struct Place {
    label: String,
    stream: BufReader<TcpStream>,
    took_us: Histogram<u64>,
}

fn main() -> ExitCode {
    let run =
        parse(env::args().skip(1)).and_then(|settings| run(&settings).map_err(|error| error.to_string()));
    match run {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("latency: {why}");
            ExitCode::FAILURE
        }
    }
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Settings, String> {
    let mut settings = Settings { addresses: Vec::new(), rate: 500.0, seconds: 8.0, users: 16_384 };
    while let Some(argument) = arguments.next() {
        if let Some((label, address)) = argument.split_once('=') {
            settings.addresses.push((label.to_owned(), address.to_owned()));
            continue;
        }
        let value = arguments.next().ok_or_else(|| format!("{argument}: expected a value"))?;
        let number = value.parse::<f64>().map_err(|error| format!("{argument} {value}: {error}"))?;
        match argument.as_str() {
            "--rate" => settings.rate = number,
            "--seconds" => settings.seconds = number,
            "--users" => settings.users = number as u64,
            _ => return Err(format!("{argument}: expected LABEL=HOST:PORT, --rate, --seconds or --users")),
        }
    }
    if settings.addresses.is_empty() { Err("expected LABEL=HOST:PORT".to_owned()) } else { Ok(settings) }
}

fn run(settings: &Settings) -> io::Result<()> {
    let mut places = settings.addresses.iter().map(connect).collect::<io::Result<Vec<_>>>()?;
    let mut order: Vec<usize> = (0..places.len()).collect();
    let mut random = StdRng::seed_from_u64(rand::random());
    let started = Instant::now();
    let questions = (settings.rate * settings.seconds) as usize;
    for number in 0..WARM_UP + questions {
        let due = started + Duration::from_secs_f64(number as f64 / settings.rate);
        if let Some(early) = due.checked_duration_since(Instant::now()) {
            std::thread::sleep(early);
        }
        let user = random.random_range(0..settings.users);
        let request = format!("GET /v1/users/{user}/balance HTTP/1.1\r\nHost: latency\r\n\r\n");
        order.shuffle(&mut random);
        for &at in &order {
            let took = places[at].ask(&request)?;
            if number >= WARM_UP {
                places[at].took_us.saturating_record(took.as_micros() as u64);
            }
        }
    }
    println!("| µs | answers | p50 | p90 | p99 | longest | p50 against the first | p99 against the first |");
    println!("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    let quantile = |place: &Place, at: f64| place.took_us.value_at_quantile(at);
    for place in &places {
        let [p50, p90, p99] = [0.5, 0.9, 0.99].map(|at| quantile(place, at));
        let more = |at: f64| quantile(place, at) as i64 - quantile(&places[0], at) as i64;
        println!(
            "| {} | {} | {p50} | {p90} | {p99} | {} | {:+} | {:+} |",
            place.label,
            place.took_us.len(),
            place.took_us.max(),
            more(0.5),
            more(0.99)
        );
    }
    Ok(())
}

fn connect((label, address): &(String, String)) -> io::Result<Place> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let took_us =
        Histogram::new_with_bounds(1, PATIENCE.as_micros() as u64, 3).expect("the bounds are constant");
    Ok(Place { label: label.clone(), stream: BufReader::new(stream), took_us })
}

impl Place {
    /// Asks, and reads the whole answer.
    fn ask(&mut self, request: &str) -> io::Result<Duration> {
        let asked = Instant::now();
        self.stream.get_mut().write_all(request.as_bytes())?;
        let (mut line, mut length) = (String::new(), 0);
        loop {
            line.clear();
            if self.stream.read_line(&mut line)? == 0 {
                return Err(io::Error::other(format!("{} closed the connection", self.label)));
            }
            if line == "\r\n" {
                break;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().map_err(io::Error::other)?;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        Ok(asked.elapsed())
    }
}
