//! What is installed beside florin: units, configurations, dashboards, man pages. Each is checked against the program.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The program that makes them for the package.
#[path = "../examples/pages.rs"]
#[allow(dead_code)]
mod pages;

const FLORIN: &str = env!("CARGO_BIN_EXE_florin");
const SERVICES: [&str; 3] = ["florin.service", "florin-shadow.service", "florin-tune.service"];
/// Exposure times ten, as `systemd-analyze security` counts it: 0 is safe from everything, 100 from nothing.
const EXPOSURE_MAX: &str = "15";

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy")
}

fn has_systemd() -> bool {
    let found = Command::new("systemd-analyze").arg("--version").output();
    found.is_ok_and(|output| output.status.success())
}

/// The units in a folder of their own, starting the program that was built.
fn units() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for unit in fs::read_dir(deploy().join("systemd")).unwrap().map(|file| file.unwrap().path()) {
        let text = fs::read_to_string(&unit).unwrap().replace("/usr/bin/florin ", &format!("{FLORIN} "));
        fs::write(folder.path().join(unit.file_name().unwrap()), text).unwrap();
    }
    folder
}

fn analyze(folder: &Path, words: &[&str], unit: &str) -> (bool, String) {
    let output = Command::new("systemd-analyze").args(words).arg(folder.join(unit)).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    if !has_systemd() {
        eprintln!("skipped: systemd_finds_nothing_wrong_with_the_units needs systemd-analyze");
        return;
    }
    let folder = units();
    for unit in fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().file_name()) {
        let unit = unit.to_str().unwrap();
        if [".service", ".slice", ".socket"].iter().any(|kind| unit.ends_with(kind)) {
            let (is_fine, said) = analyze(folder.path(), &["verify", "--man=no"], unit);
            assert!(is_fine && said.is_empty(), "{unit}: {said}");
        }
    }
}

#[test]
fn the_services_are_exposed_to_little() {
    if !has_systemd() {
        eprintln!("skipped: the_services_are_exposed_to_little needs systemd-analyze");
        return;
    }
    let folder = units();
    for unit in SERVICES {
        let words = ["security", "--offline=true", "--no-pager", "--threshold", EXPOSURE_MAX];
        let (is_fine, said) = analyze(folder.path(), &words, unit);
        assert!(said.contains("Overall exposure level"), "{said}");
        assert!(is_fine, "{unit} is exposed to more than {EXPOSURE_MAX} tenths:\n{said}");
    }
}

/// Once the filter forbade the lower priority by which callers come before handshakes, checkpoints and the audit, and nobody saw it.
#[test]
fn florins_unit_allows_what_florin_asks_of_the_kernel() {
    let unit = fs::read_to_string(deploy().join("systemd/florin.service")).expect("the unit");
    let allowed: Vec<&str> = unit
        .lines()
        .filter_map(|line| line.strip_prefix("SystemCallFilter="))
        .flat_map(str::split_whitespace)
        .collect();
    for call in ["sched_setaffinity", "sched_setattr", "setpriority", "prlimit64"] {
        assert!(allowed.contains(&call), "{call}: {allowed:?}");
    }
}

#[test]
fn florin_takes_the_configuration_and_it_names_every_key() {
    let path = deploy().join("florin.toml");
    let output = Command::new(FLORIN).args(["config", "check", "--config"]).arg(&path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // What is commented out must be right as well.
    let text = fs::read_to_string(deploy().join("florin.toml")).unwrap();
    let keys = florin::cli::settings::KEYS;
    let is_setting = |line: &&str| keys.iter().any(|key| line.starts_with(&format!("# {key} = ")));
    let shown: String = text
        .lines()
        .map(|line| if is_setting(&line) { &line[2..] } else { line })
        .map(|line| format!("{line}\n"))
        .collect();
    florin::cli::settings::Settings::parse(&shown).unwrap();
    // To fix the clock is for tests.
    for key in keys.iter().filter(|key| **key != "now") {
        assert!(shown.lines().any(|line| line.starts_with(&format!("{key} = "))), "florin.toml lacks {key}");
    }
}

#[test]
fn dashboard_and_alerts_ask_for_metrics_that_there_are() {
    #[allow(unused_mut)]
    let mut there: BTreeSet<String> = names(&node_page()).into_iter().chain(names(&shadow_page())).collect();
    // Those of a node that follows a PostgreSQL, or a Kafka.
    #[cfg(feature = "postgres")]
    there.extend(florin_postgres::PgStatus::default().figures().map(|figure| figure.name.to_owned()));
    #[cfg(feature = "kafka")]
    there.extend(florin_kafka::KafkaStatus::default().figures().map(|figure| figure.name.to_owned()));
    for file in ["grafana/florin.json", "grafana/alerts.yml"] {
        let text = fs::read_to_string(deploy().join(file)).unwrap();
        let asked = names(&text);
        assert!(asked.len() > 5, "{file}: {asked:?}");
        for name in asked {
            assert!(there.contains(&name), "{file} asks for {name}, which /metrics does not have");
        }
    }
    let dashboard = fs::read_to_string(deploy().join("grafana/florin.json")).unwrap();
    serde_json::from_str::<serde_json::Value>(&dashboard).unwrap();
}

/// Runs promtool, where there is one.
fn promtool() -> Option<impl Fn(&[&str]) -> std::process::Output> {
    let run = |words: &[&str]| {
        let path = std::env::var("PATH").unwrap_or_default();
        let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/bin");
        let mut command = Command::new("promtool");
        command.env("PATH", format!("{}:{path}", tools.display()));
        command.current_dir(env!("CARGO_MANIFEST_DIR")).args(words).output()
    };
    run(&["--version"]).is_ok().then_some(move |words: &[&str]| run(words).unwrap())
}

#[test]
fn every_alert_fires_for_what_it_is_for_and_in_time() {
    // Nothing fired for a node that was dead, and FlorinBehind came five seconds after the node had begun to refuse.
    let Some(promtool) = promtool() else {
        eprintln!(
            "skipped: every_alert_fires_for_what_it_is_for_and_in_time needs promtool (package prometheus)"
        );
        return;
    };
    for words in [["check", "rules", "deploy/grafana/alerts.yml"], ["test", "rules", "tests/alerts.yml"]] {
        let output = promtool(&words);
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(output.status.success(), "{said}");
    }
    // Each has been seen to fire.
    let seen = fs::read_to_string("tests/alerts.yml").unwrap();
    for alert in alerts() {
        assert!(seen.contains(&format!("alertname: {alert}\n        exp_alerts")), "{alert}");
    }
}

/// The scrape jobs that the page shows are as Prometheus reads them.
#[test]
fn prometheus_reads_the_scrape_jobs_of_the_page() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/deploy.md")).unwrap();
    let jobs: Vec<&str> =
        page.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(jobs.len() == 2 && jobs.iter().all(|job| job.contains("job_name: florin\n")), "{jobs:?}");
    let Some(promtool) = promtool() else {
        eprintln!(
            "skipped: prometheus_reads_the_scrape_jobs_of_the_page needs promtool (package prometheus)"
        );
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    for job in jobs {
        let file = folder.path().join("prometheus.yml");
        fs::write(&file, job).unwrap();
        let output = promtool(&["check", "config", "--syntax-only", file.to_str().unwrap()]);
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(output.status.success(), "{said}\n{job}");
    }
}

/// The names of all alerts, in their order.
fn alerts() -> Vec<String> {
    let rules = fs::read_to_string(deploy().join("grafana/alerts.yml")).unwrap();
    let names = rules.lines().filter_map(|line| line.trim_start().strip_prefix("- alert: "));
    names.map(str::to_owned).collect()
}

#[test]
fn every_alert_leads_to_its_entry_in_the_runbook() {
    let rules = fs::read_to_string(deploy().join("grafana/alerts.yml")).unwrap();
    let runbook = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/runbook.md");
    let runbook = fs::read_to_string(runbook).unwrap();
    let entries: Vec<&str> = runbook.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    let alerts = alerts();
    for rule in rules.split("- alert: ").skip(1) {
        let name = rule.lines().next().unwrap();
        let link = format!(
            "runbook_url: \"https://github.com/florin-db/florin/blob/main/docs/runbook.md#{}\"",
            name.to_lowercase()
        );
        assert!(rule.contains(&link), "{name} lacks {link}");
        assert!(entries.contains(&name), "docs/runbook.md has no entry for {name}");
    }
    let stray: Vec<_> = entries.iter().filter(|entry| !alerts.iter().any(|name| name == *entry)).collect();
    assert!(alerts.len() > 20 && stray.is_empty(), "no alert has these names: {stray:?}");
    for entry in runbook.split("\n### ").skip(1) {
        let name = entry.lines().next().unwrap();
        let says = |what: &str| entry.contains(&format!("\n**{what}:** "));
        assert!(
            says("Callers") && says("Look") && says("Do"),
            "{name}: what callers notice, what to look at, what to do"
        );
    }
}

/// A query that is mistyped, or asks for a label that is not there, shows an empty panel, and nobody sees that it is.
#[test]
fn every_query_of_the_dashboard_finds_something_in_real_metrics() {
    let Some(promtool) = promtool() else {
        eprintln!(
            "skipped: every_query_of_the_dashboard_finds_something_in_real_metrics needs promtool (package prometheus)"
        );
        return;
    };
    let mut series = String::from("  - {series: 'up{job=\"florin\", instance=\"a\"}', values: \"1x20\"}\n");
    for (job, page) in [("florin", node_page()), ("florin-shadow", shadow_page())] {
        for line in page.lines().filter(|line| !line.starts_with('#')) {
            let (name, value) = line.rsplit_once(' ').unwrap();
            let labels = format!("job=\"{job}\", instance=\"a\"");
            let name = match name.split_once('{') {
                Some((name, rest)) => format!("{name}{{{labels}, {rest}"),
                None => format!("{name}{{{labels}}}"),
            };
            if value.parse::<f64>().unwrap().is_finite() {
                series.push_str(&format!("  - {{series: '{name}', values: \"{value}+1x20\"}}\n"));
            }
        }
    }
    let dashboard = fs::read_to_string(deploy().join("grafana/florin.json")).unwrap();
    let dashboard: serde_json::Value = serde_json::from_str(&dashboard).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    let queries: Vec<&str> = targets.map(|target| target["expr"].as_str().unwrap()).collect();
    assert!(queries.len() > 20, "{queries:?}");
    // A node that follows a PostgreSQL or a topic has these, and one that divides the users with others (`tests/command/nodes.rs` looks at
    // its metrics); this does neither, and has no certificate. A kernel may not count the last.
    let is_elsewhere = |query: &str| {
        query.contains("florin_postgres_")
            || query.contains("florin_kafka_")
            || query.contains("florin_partition")
            || query.contains("florin_nodes")
            || query.contains("florin_tls_")
            || (query.contains("florin_migrations_total") && !series.contains("florin_migrations_total"))
    };
    let asked = queries.iter().filter(|query| !is_elsewhere(query));
    let tests: String = asked
        .map(|query| {
            let query = query.replace("$instance", ".*");
            format!("  - {{expr: 'count({query}) > bool 0', eval_time: 3m, exp_samples: [{{labels: '{{}}', value: 1}}]}}\n")
        })
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("dashboard.yml");
    let text = format!("tests:\n- interval: 10s\n  input_series:\n{series}  promql_expr_test:\n{tests}");
    fs::write(&file, &text).unwrap();
    let output = promtool(&["test", "rules", file.to_str().unwrap()]);
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success(), "{said}");
}

/// Every word that is a metric's name.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words
        .filter(|word| word.starts_with("florin_") || word.starts_with("process_"))
        .map(str::to_owned)
        .collect()
}

/// The page of metrics of a node that runs, has answered and has a checkpoint. A kernel may leave migrations uncounted; the heading is
/// there all the same.
fn node_page() -> String {
    let folder = tempfile::tempdir().unwrap();
    let ledger = format!("sqlite:{}", folder.path().join("l.db").display());
    let generated = Command::new(FLORIN)
        .args(["generate", "--users", "2", "--transactions", "2", "--ledger", &ledger])
        .output()
        .unwrap();
    assert!(generated.status.success(), "{}", String::from_utf8_lossy(&generated.stderr));
    let node = Command::new(FLORIN)
        .args(["serve", "--ledger", &ledger, "--listen", "127.0.0.1:0", "--shard-listen", "off"])
        .args(["--admin", "127.0.0.1:0", "--shards", "1", "--audit", "1%", "--checkpoint"])
        .arg(folder.path().join("checkpoints"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut node = Running(node);
    let mut lines = BufReader::new(node.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    let any = lines.find_map(|line| Some(line.strip_prefix("  any shard  ")?.to_owned())).unwrap();
    let admin = lines.find_map(|line| Some(line.split_once("http://")?.1.to_owned())).unwrap();
    let ready = lines.find(|line| line.starts_with("ready: "));
    assert!(ready.is_some(), "the node ended before it was ready");
    ask(&any, "GET /v1/users/1/balance");
    ask(&admin, "POST /v1/checkpoint");
    let deadline = Instant::now() + Duration::from_secs(60);
    // Until its audit has seen everybody once, some values are none.
    let has_seen = |page: &str| page.lines().any(|line| line.starts_with("florin_audit_pass_age_seconds "));
    while !has_seen(&ask(&admin, "GET /metrics")) {
        assert!(Instant::now() < deadline, "the audit of two users has not come to its end");
        std::thread::park_timeout(Duration::from_millis(1));
    }
    page_at(&admin, node)
}

/// The same of a shadow. Nobody need be where its primary and its candidate are said to be.
fn shadow_page() -> String {
    let folder = tempfile::tempdir().unwrap();
    let shadow = Command::new(FLORIN)
        .args([
            "shadow",
            "--listen",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
            "--primary",
            "http://127.0.0.1:1",
        ])
        .args(["--candidate", "http://127.0.0.1:2", "--report"])
        .arg(folder.path().join("report"))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut shadow = Running(shadow);
    let mut lines = BufReader::new(shadow.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    let admin = lines.find_map(|line| Some(line.trim().strip_prefix("admin")?.trim().to_owned())).unwrap();
    page_at(admin.trim_start_matches("http://"), shadow)
}

/// The page of metrics at `admin`; then `server` is ended.
fn page_at(admin: &str, server: Running) -> String {
    let page = ask(admin, "GET /metrics");
    drop(server);
    page
}

/// A process that ends with its test, also where that fails.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The body of the answer to a request without one.
fn ask(address: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "{request} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{request}: {answer}");
    body.to_owned()
}

/// `scripts/needs` where nothing is installed but `there`: how it ends, what it says, and what it asks apt-get for.
fn needs(what: &str, there: &[&str]) -> (bool, String, String) {
    let folder = tempfile::tempdir().unwrap();
    let asked = folder.path().join("asked");
    let stub = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    };
    there.iter().for_each(|name| stub(name, "exit 0"));
    stub("apt-get", &format!("echo \"$@\" >>'{}'", asked.display()));
    // What every shell has.
    for name in ["bash", "dirname", "id", "mktemp", "mkdir", "rm", "cp"] {
        let path = ["/bin", "/usr/bin"].map(|folder| Path::new(folder).join(name));
        symlink(path.iter().find(|path| path.exists()).unwrap(), folder.path().join(name)).unwrap();
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/needs");
    let output = Command::new("/bin/bash")
        .arg(script)
        .arg(what)
        .env_clear()
        .env("HOME", folder.path())
        .env("PATH", folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    (output.status.success(), said, fs::read_to_string(asked).unwrap_or_default())
}

#[test]
fn a_command_installs_what_it_needs_and_nothing_else() {
    // `make run` as root installed systemd-container, mmdebstrap and Chromium.
    let all = ["git", "cargo", "c++", "make", "pkg-config", "cc"];
    let (is_fine, said, asked) = needs("run", &all);
    assert!(is_fine && asked.is_empty(), "{said}{asked}");
    let (_, said, asked) = needs("run", &all[..5]);
    let named = said + &asked;
    assert!(named.contains("gcc") && !named.contains("libssl-dev"), "{named}");
    assert!(!named.contains("cmake") && !named.contains("mmdebstrap"), "{named}");
    // Kafka's client is linked with the system's OpenSSL.
    let (_, said, asked) = needs("run", &["git", "cargo"]);
    let named = said + &asked;
    for package in ["g++", "make", "pkg-config", "libssl-dev"] {
        assert!(named.contains(package), "{package}: {named}");
    }
    let (_, said, asked) = needs("test", &all);
    let (named, is_root) = (said + &asked, rustix::process::geteuid().is_root());
    assert!(named.contains("strace") && named.contains("mmdebstrap") == is_root, "{named}");
    assert!(!needs("", &all).0);
}

#[test]
fn each_command_has_a_man_page_and_each_shell_a_completion() {
    let folder = tempfile::tempdir().unwrap();
    pages::write_all(folder.path()).unwrap();
    for page in ["florin.1", "florin-serve.1", "florin-tune.1", "florin-tune-plan.1"] {
        let text = fs::read_to_string(folder.path().join("man").join(page)).unwrap();
        assert!(text.contains(".SH SYNOPSIS") && text.contains("florin"), "{page}: {text}");
    }
    for completion in ["florin.bash", "_florin", "florin.fish"] {
        let text = fs::read_to_string(folder.path().join("completions").join(completion)).unwrap();
        assert!(text.contains("housekeeping-cpus"), "{completion}");
    }
}
