//! The page in a real browser: Debian's `chromium`, without a screen.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::faulty::between;
use crate::shadow::{Caller, Shadow, generated, http};
use crate::support::{Server, WITHOUT_A_SCREEN, browser, end};

/// What the browser makes of a page, as HTML, once its script has run.
fn dumped(browser: &str, url: &str, more: &[&str]) -> String {
    let profile = TempDir::new().expect("a temporary folder");
    let mut command = Command::new(browser);
    command
        .args(WITHOUT_A_SCREEN)
        .args(["--window-size=1120,1640", "--virtual-time-budget=3000"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .args(more)
        .args(["--dump-dom", url]);
    end(command, "").ok()
}

/// The text of the element with this id.
fn text_of(dom: &str, id: &str) -> String {
    let start = dom.find(&format!("id=\"{id}\"")).unwrap_or_else(|| panic!("no {id} in {dom}"));
    let inside = &dom[start..];
    let inside = &inside[inside.find('>').expect("a tag ends") + 1..];
    let end = inside.find("</b>").or_else(|| inside.find("</")).expect("an element ends");
    inside[..end].trim_start_matches("<b>").to_owned()
}

#[test]
fn the_live_page_and_the_report_show_what_was_found() {
    let Some(browser) = browser() else {
        println!(
            "skipped: the_live_page_and_the_report_show_what_was_found needs a browser (apt-get install chromium)"
        );
        return;
    };
    let folder = generated(60, 2_000, "2026-11-22T10:30:00Z");
    let node = Server::start(folder.path(), &["--shards", "1"]);
    // A defect, and a service that would like to write into the page.
    let candidate = between(node.any, |asked, answer| {
        if asked.target == "/v1/users/7/balance" {
            answer.body =
                answer.body.replacen("\"available\":\"", "\"available\":\"</script><b id='planted'>9", 1);
        }
        None
    });
    let shadow = Shadow::start(folder.path(), &http(node.any), &http(candidate), &[]);
    let mut caller = Caller::connect(shadow.listen);
    for user in 0..60 {
        caller.get(&format!("/v1/users/{user}/balance"));
        caller.get(&format!("/v1/users/{user}/statistics"));
    }
    shadow.settled(120);
    let live = dumped(browser, &format!("{}/", http(shadow.admin)), &[]);
    let ended = shadow.end();
    assert_eq!(ended.code, Some(20));
    let report = folder.path().join("report/latest/report.html");
    let report_url = format!("file://{}", report.display());
    let picture = folder.path().join("page.png");
    let screenshot = format!("--screenshot={}", picture.display());
    let kept = dumped(browser, &report_url, &[]);
    dumped(browser, &report_url, &[&screenshot]);
    for dom in [&live, &kept] {
        assert!(dom.contains("data-shown=\"120\""), "the script did not run: {dom}");
        assert_eq!(
            (text_of(dom, "verdict-equal"), text_of(dom, "verdict-mismatch")),
            ("119".to_owned(), "1".to_owned())
        );
        assert!(text_of(dom, "words").contains("does not answer the same"), "{dom}");
        assert!(
            dom.contains("&lt;/script&gt;&lt;b id='planted'&gt;9")
                || dom.contains("&lt;/script&gt;&lt;b id=\u{27}planted\u{27}&gt;9"),
            "{dom}"
        );
        assert!(!dom.contains("<b id=\"planted\">"), "what a service says became part of the page: {dom}");
    }
    assert_png(&picture);
    if let Ok(kept) = std::env::var("FLORIN_SCREENSHOT") {
        std::fs::copy(&picture, kept).expect("a place for the picture");
    }
}

fn assert_png(path: &Path) {
    let bytes = std::fs::read(path).expect("a picture");
    assert!(bytes.starts_with(b"\x89PNG\r\n") && bytes.len() > 10_000, "{} bytes", bytes.len());
}
