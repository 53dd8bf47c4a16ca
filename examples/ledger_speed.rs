//! How fast the ledger is on this machine: `cargo run --release --example ledger_speed [ROWS]`.
//!
//! Prints rows a second of `generate`, and of `import` into a new file.

use std::error::Error;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use florin::cli::generate::{GenerateOptions, Platform, generate};
use florin::cli::import::{ImportOptions, Source, import};
use florin::cli::progress::Silent;
use florin_record::NewTransaction;
use jiff::Timestamp;

fn main() -> Result<(), Box<dyn Error>> {
    let rows: u64 = std::env::args().nth(1).map_or(Ok(1_000_000), |rows| rows.parse())?;
    let directory = tempfile::tempdir()?;
    let ledger = directory.path().join("generated.db");

    let begun = Instant::now();
    let until_us = Timestamp::now().as_microsecond();
    let options = GenerateOptions {
        ledger: ledger.clone().into(),
        users: 16_384,
        transactions: rows,
        seed: 7,
        until_us,
    };
    generate(&options, &mut Silent)?;
    report("generate", rows, begun);

    let csv = directory.path().join("rows.csv");
    write_csv(&options, &csv)?;
    let begun = Instant::now();
    let ledger = directory.path().join("imported.db").into();
    let options = ImportOptions { source: Source::File(csv), ledger, skip_bad: None };
    import(&options, &mut Silent)?;
    report("import into a new file", rows, begun);
    let begun = Instant::now();
    import(&options, &mut Silent)?;
    report("import of the same file again", rows, begun);
    Ok(())
}

fn report(what: &str, rows: u64, begun: Instant) {
    let seconds = begun.elapsed().as_secs_f64();
    println!("{what}: {:.0} rows/s ({rows} rows in {seconds:.2} s)", rows as f64 / seconds);
}

fn write_csv(options: &GenerateOptions, path: &Path) -> Result<(), Box<dyn Error>> {
    let mut platform = Platform::new(options.users, options.seed);
    let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
    writeln!(file, "transaction_id,user_id,asset,kind,amount,occurred_at")?;
    let mut written = 0;
    while written < options.transactions {
        let at_us = options.until_us - i64::try_from(options.transactions - written)?;
        for row in platform.next_event(at_us).rows() {
            let at = Timestamp::from_microsecond(row.occurred_at_us)?;
            let NewTransaction { transaction_id, user_id, asset, kind, amount, .. } = row;
            writeln!(file, "{transaction_id},{user_id},{asset},{kind},{amount},{at:.6}")?;
            written += 1;
        }
    }
    file.flush()?;
    Ok(())
}
