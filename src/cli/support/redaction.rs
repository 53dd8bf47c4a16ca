//! Takes secrets out of texts that are passed on. What is taken for one by mistake costs a few words of a log; one that is overlooked
//! costs a ledger: where it is not clear, it is one.

/// What stands in the place of a secret.
const LEFT_OUT: &str = "(left out)";

/// Words behind which a secret stands: in addresses, in headers, in configurations, in commands.
const BEFORE_SECRETS: [&str; 18] = [
    "password",
    "passwd",
    "passphrase",
    "pwd",
    "secret",
    "secret_key",
    "secret-key",
    "private_key",
    "private-key",
    "access_key",
    "access-key",
    "token",
    "bearer",
    "basic",
    "authorization",
    "api_key",
    "api-key",
    "apikey",
];

/// Words that follow those in sentences, as in `the token was refused` and `password authentication failed`; no secret is one of them.
const IN_SENTENCES: &str = " and are as at authentication authorization but by can cannot did do does empty ended ends expected \
    expired failed file for from has have if in invalid is it may missing must needs no not of on once or refused rejected required \
    scheme so takes than that then there they to token too unknown was were when where which who whose with without wrong yet ";

/// A text without what looks like a secret, line by line. Of a key in PEM, which has many lines, one is left.
pub(super) fn without_secrets(text: &str) -> String {
    let mut shown: Vec<String> = Vec::new();
    let mut is_in_pem = false;
    for line in text.lines() {
        let mut rest = line;
        let mut kept = String::new();
        loop {
            let mark = if is_in_pem { "-----END" } else { "-----BEGIN" };
            match rest.split_once(mark) {
                Some((_, behind)) if is_in_pem => {
                    is_in_pem = false;
                    rest = behind.split_once("-----").map_or("", |(_, behind)| behind);
                }
                Some((before, behind)) => {
                    is_in_pem = true;
                    kept = kept + before + LEFT_OUT;
                    rest = behind;
                }
                None if is_in_pem => break,
                None => {
                    kept.push_str(rest);
                    break;
                }
            }
        }
        if !is_in_pem && kept.contains("-----END") {
            // The beginning is not there: what was read is the end of a file.
            while shown.last().is_some_and(|line| is_of_pem(line)) {
                shown.pop();
            }
            kept = LEFT_OUT.to_owned();
        }
        if !kept.is_empty() || (line.is_empty() && !is_in_pem) {
            shown.push(line_without_secrets(&kept));
        }
    }
    shown.join("\n")
}

/// Whether a line ends as those of a key in PEM do, whatever a log has put before it.
fn is_of_pem(line: &str) -> bool {
    let last = line.split_whitespace().last().unwrap_or_default();
    last.len() >= 16 && last.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte))
}

/// What stands before the `@` of an address, florin's tokens, and all that follows a word such as `password`.
fn line_without_secrets(line: &str) -> String {
    let mut line = without_tokens(&without_userinfo(line));
    let lower = line.to_ascii_lowercase();
    let words = BEFORE_SECRETS.iter().flat_map(|word| lower.match_indices(word));
    let ends =
        words.filter(|&(at, word)| is_before_secret(&lower, at, word)).map(|(at, word)| at + word.len());
    if let Some(end) = ends.min() {
        line.truncate(end);
        line.push(' ');
        line.push_str(LEFT_OUT);
    }
    line
}

/// Whether what follows this word is a secret: one is set off by a sign or by a blank. `florin_wrong_tokens_total 0` is none.
fn is_before_secret(lower: &str, at: usize, word: &str) -> bool {
    let rest = &lower[at + word.len()..];
    // As JSON, and as JSON in a text of JSON's.
    let unquoted = rest.trim_start_matches(['"', '\'', '\\']);
    let gap = unquoted.trim_start();
    let is_apart = gap.len() < unquoted.len();
    match (word, gap.chars().next()) {
        (_, None) => false,
        _ if gap.starts_with(LEFT_OUT) => false,
        ("basic", _) => is_apart && is_coded(gap),
        ("bearer", _) if !is_apart => false,
        (_, Some('=')) => true,
        (_, Some(':')) => !is_said_of_proof(gap[1..].trim_start()),
        // A list of arguments: "--token", "…"
        (_, Some(',')) => lower[..at].ends_with('-') && unquoted.len() < rest.len(),
        _ => is_apart && !is_sentence(gap),
    }
}

/// What florin says of a proof that is wrong is the reason for something, and repeats none:
/// `token: expected one of a caller who may metrics, as Authorization: Bearer, or by TLS …`.
fn is_said_of_proof(text: &str) -> bool {
    [LEFT_OUT, "expected ", "too ", "bearer,"].iter().any(|said| text.starts_with(said))
}

/// Whether a sentence goes on: `was refused`, but not `was hunter2`.
fn is_sentence(text: &str) -> bool {
    let mut words = text.split_whitespace();
    let mut is_known = || match words.next() {
        None => (true, true),
        Some(word) => {
            let word = word.trim_end_matches([',', '.', ';', ':', ')', '"', '\'']);
            (IN_SENTENCES.contains(&format!(" {word} ")), ["is", "was", "are", "were"].contains(&word))
        }
    };
    match is_known() {
        (true, true) => is_known().0,
        (is_known, _) => is_known,
    }
}

/// Whether the next word may be base64 of a name and a password: it is none of a language.
fn is_coded(text: &str) -> bool {
    let word = text.split([' ', '"', '\'', ',', '.']).next().unwrap_or_default();
    word.len() >= 4 && !word.bytes().all(|byte| byte.is_ascii_lowercase())
}

/// Both kinds of florin's tokens, wherever they stand; `src/callers/token.rs` has their forms. A metric's name begins as one kind does,
/// and has no capital letter.
fn without_tokens(line: &str) -> String {
    let is_of_token = |letter: char| letter.is_ascii_alphanumeric() || "._-+%".contains(letter);
    let mut shown = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find("florin") {
        let (before, word) = rest.split_at(at);
        let (word, behind) = word.split_at(word.find(|letter| !is_of_token(letter)).unwrap_or(word.len()));
        let parts: Vec<&str> = word.split('.').collect();
        let is_signed = parts[0] == "florin1"
            && parts.len() >= 6
            && !parts[4].is_empty()
            && parts[4].bytes().all(|byte| byte.is_ascii_digit());
        let is_random = word.starts_with("florin_") && word.bytes().any(|byte| byte.is_ascii_uppercase());
        shown.push_str(before);
        if is_signed || is_random {
            shown.push_str(LEFT_OUT);
            rest = behind;
        } else {
            shown.push_str("florin");
            rest = &rest[at + "florin".len()..];
        }
    }
    shown.push_str(rest);
    shown
}

/// `postgres://role:word@host` as `postgres://role:(left out)@host`.
fn without_userinfo(line: &str) -> String {
    let mut shown = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("://") {
        shown.push_str(before);
        shown.push_str("://");
        let word_end = after.find([' ', '"', '\'', '<', '>']).unwrap_or(after.len());
        let word = &after[..word_end];
        let authority_end = word.find(['/', '?']).unwrap_or(word.len());
        // A password may have a `/` that nobody has encoded; behind a port that is a path.
        let is_port = |text: &str| {
            let first = text.split(',').next().unwrap_or_default();
            first.bytes().all(|byte| byte.is_ascii_digit())
        };
        let authority = match word[..authority_end].split_once(':') {
            Some(("" | "[", _)) | None => &word[..authority_end],
            Some((_, password)) if is_port(password) => &word[..authority_end],
            Some(_) => word,
        };
        match authority.rfind('@') {
            Some(end) => {
                let user = &authority[..end];
                let role = user.split(':').next().unwrap_or_default();
                shown.push_str(role);
                if user.contains(':') {
                    shown.push(':');
                    shown.push_str(LEFT_OUT);
                }
                rest = &after[end..];
            }
            None => rest = after,
        }
    }
    shown.push_str(rest);
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: &str = "q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA";

    /// Signed tokens, values behind a blank, `Basic` and keys in PEM were passed on.
    #[test]
    fn what_looks_like_a_secret_is_taken_out_and_nothing_else() {
        let signed = format!("florin1.2026-11.team-a.balance+batch.1795320306.{MAC}");
        let random = format!("florin_{MAC}");
        for (line, shown) in [
            ("postgres://app:hunter2@db:5432/x?table=t", "postgres://app:(left out)@db:5432/x?table=t"),
            ("a postgres://app@db/x and b://u:p@h", "a postgres://app@db/x and b://u:(left out)@h"),
            ("postgres://app:hun/ter2@db:5432/x y", "postgres://app:(left out)@db:5432/x y"),
            ("kafka://a:9092,b:9092/topic?x=y@z", "kafka://a:9092,b:9092/topic?x=y@z"),
            ("tls-key = \"/etc/k\" password = \"hunter2\"", "tls-key = \"/etc/k\" password (left out)"),
            ("Authorization: Bearer hunter2", "Authorization (left out)"),
            ("got Bearer hunter2", "got Bearer (left out)"),
            ("got Basic aHVudGVyMjpodW50ZXIy", "got Basic (left out)"),
            ("curl -H 'Authorization: Basic aHVudGVyMg=='", "curl -H 'Authorization (left out)"),
            ("{\"token\":\"hunter2\"}", "{\"token (left out)"),
            ("{\"message\":\"{\\\"token\\\": \\\"hunter2\\\"}\"}", "{\"message\":\"{\\\"token (left out)"),
            ("token: hunter2; token: expected one", "token (left out)"),
            // A blank sets off too.
            ("florin get --token XYZ987 balance 42", "florin get --token (left out)"),
            ("[\"florin\", \"--token\", \"XYZ987\"]", "[\"florin\", \"--token (left out)"),
            ("token XYZ", "token (left out)"),
            ("password \"q p w\" and more", "password (left out)"),
            ("the password is hunter2", "the password (left out)"),
            ("PGPASSWORD=hunter2 psql", "PGPASSWORD (left out)"),
            ("api-key hunter2", "api-key (left out)"),
            ("the token was refused: token=hunter2", "the token was refused: token (left out)"),
            // florin's own tokens need no word before them.
            (&format!("got {signed}, and went on"), "got (left out), and went on"),
            (&format!("{{\"seen\":\"{signed}\",\"n\":1}}"), "{\"seen\":\"(left out)\",\"n\":1}"),
            (&format!("got {random} and {random}"), "got (left out) and (left out)"),
            (&format!("http://h/?t={signed}&u=1"), "http://h/?t=(left out)&u=1"),
            // A key has one line where there were many.
            (
                "a -----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBg\n\nx\n-----END PRIVATE KEY----- b\nc",
                "a (left out)\n b\nc",
            ),
            ("{\"key\":\"-----BEGIN KEY-----\\nMII\\n-----END KEY-----\"}", "{\"key\":\"(left out)\"}"),
            ("x\nMIIEvQIBADANBgkqhkiG9w0B\n-----END PRIVATE KEY-----\ny", "x\n(left out)\ny"),
        ] {
            assert_eq!(without_secrets(line), shown, "{line}");
            assert_eq!(without_secrets(shown), shown, "once more: {line}");
        }
    }

    #[test]
    fn what_a_log_says_stays() {
        for line in [
            "token: expected one of a caller who may metrics, as Authorization: Bearer, or by TLS the caller's certificate: give a token \
             by --token-file FILE or FLORIN_TOKEN, a certificate by --tls-cert FILE and --tls-key FILE",
            "florin_wrong_tokens_total{shard=\"0\"} 0",
            "florin_refused_total{reason=\"token\"} 5",
            "http://127.0.0.1:7300/v1 and https://[::1]:7300/",
            "FATAL: password authentication failed for user \"app\"",
            "the token was refused, and the password is wrong.",
            "basic support for --token-file /run/florin.token",
            "cannot connect to florin1.db.eu.example.com:5432",
            "florin 1.2.0 on florin_host.example",
            "",
        ] {
            assert_eq!(without_secrets(line), line);
        }
    }
}
