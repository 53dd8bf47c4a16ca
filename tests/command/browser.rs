//! A real browser without a screen, told what to do over a pipe (the DevTools protocol): Debian's `chromium`.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};

use base64::Engine;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::support::{PATIENCE, WITHOUT_A_SCREEN, browser, wait_for};

/// One page of it; it ends when dropped.
pub struct Browser {
    child: Child,
    orders: ChildStdin,
    heard: Receiver<Value>,
    number: u64,
    session: Value,
    /// What pages did that they may not, and what went wrong in their scripts.
    pub complaints: Vec<String>,
    _profile: TempDir,
}

impl Browser {
    /// `None` where there is none on this host.
    pub fn start() -> Option<Browser> {
        let name = browser()?;
        let profile = TempDir::new().expect("a temporary folder");
        // The browser hears on descriptor 3 and speaks on 4.
        let mut child = Command::new("sh")
            .args(["-c", r#"exec "$0" "$@" 3<&0 4>&1 </dev/null >/dev/null"#, name])
            .args(WITHOUT_A_SCREEN)
            .args(["--remote-debugging-pipe", "--window-size=1280,1400"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell");
        let orders = child.stdin.take().expect("it is piped");
        let said = child.stdout.take().expect("it is piped");
        let (tell, heard) = mpsc::channel();
        std::thread::spawn(move || {
            let messages = BufReader::new(said).split(0).map_while(Result::ok);
            // The test may have ended.
            let _ =
                messages.map(|text| tell.send(serde_json::from_slice(&text).unwrap())).find(Result::is_err);
        });
        let session = Value::Null;
        let mut browser =
            Browser { child, orders, heard, number: 0, session, complaints: Vec::new(), _profile: profile };
        let target = browser.tell("Target.createTarget", json!({"url": "about:blank"}));
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        browser.session = browser.tell("Target.attachToTarget", attach)["sessionId"].clone();
        for domain in ["Page.enable", "Runtime.enable", "Log.enable"] {
            browser.tell(domain, json!({}));
        }
        Some(browser)
    }

    /// Gives an order, and waits for its outcome.
    #[track_caller]
    fn tell(&mut self, method: &str, parameters: Value) -> Value {
        self.number += 1;
        let mut order = json!({"id": self.number, "method": method, "params": parameters});
        if !self.session.is_null() {
            order["sessionId"] = self.session.clone();
        }
        write!(self.orders, "{order}\0").expect("the browser hears");
        loop {
            let mut heard = self.heard.recv_timeout(PATIENCE).unwrap_or_else(|e| panic!("{method}: {e}"));
            if heard["id"] == self.number {
                assert!(heard["error"].is_null(), "{method}: {heard}");
                return heard["result"].take();
            }
            let entry = &heard["params"]["entry"];
            let is_broken = heard["method"] == "Runtime.exceptionThrown";
            if is_broken || (entry["level"] == "error" && entry["source"] != "network") {
                self.complaints.push(heard.to_string());
            }
        }
    }

    /// Goes to a page.
    pub fn open(&mut self, url: &str) {
        self.tell("Page.navigate", json!({"url": url}));
    }

    /// What an expression comes to.
    pub fn value(&mut self, expression: &str) -> Value {
        let evaluate = json!({"expression": expression, "returnByValue": true});
        let outcome = self.tell("Runtime.evaluate", evaluate);
        assert!(outcome["exceptionDetails"].is_null(), "{expression}: {outcome}");
        outcome["result"]["value"].clone()
    }

    /// The text of the first element that a selector finds.
    pub fn text(&mut self, selector: &str) -> String {
        let value = self.value(&format!("document.querySelector({selector:?})?.innerText"));
        value.as_str().unwrap_or_default().to_owned()
    }

    /// Waits until that text contains this.
    #[track_caller]
    pub fn wait_for_text(&mut self, selector: &str, part: &str) -> String {
        let mut last = String::new();
        wait_for(&format!("{part:?} in {selector}"), || {
            last = self.text(selector);
            last.contains(part).then_some(())
        });
        last
    }

    /// Types a text into a field, and sends its form.
    pub fn send(&mut self, field: &str, text: &str) {
        self.value(&format!(
            "(() => {{ const field = document.querySelector({field:?}); field.value = {text:?}; field.form.requestSubmit(); }})()"
        ));
    }

    /// As by day, or by night.
    pub fn prefer(&mut self, scheme: &str) {
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.tell("Emulation.setEmulatedMedia", json!({"features": features}));
    }

    /// The whole page as a PNG.
    pub fn picture(&mut self) -> Vec<u8> {
        let shot =
            self.tell("Page.captureScreenshot", json!({"format": "png", "captureBeyondViewport": true}));
        let data = shot["data"].as_str().expect("a picture");
        base64::engine::general_purpose::STANDARD.decode(data).expect("in base64")
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
