//! What the page is made of: files that hold nothing of this node, and are told to everybody.

use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};

/// What the page is made of: path, type, text.
pub(super) const PARTS: [(&str, &str, &str); 5] = [
    ("/", "text/html; charset=utf-8", include_str!("page.html")),
    ("/console/console.js", "text/javascript; charset=utf-8", include_str!("console.js")),
    ("/console/console.css", "text/css; charset=utf-8", include_str!("console.css")),
    ("/console/uplot.js", "text/javascript; charset=utf-8", include_str!("uplot/uPlot.iife.min.js")),
    ("/console/uplot.css", "text/css; charset=utf-8", include_str!("uplot/uPlot.min.css")),
];

/// Only what comes from here; what is drawn sets its style by script, which this permits.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Whether a path is a part of the page, which is told to everybody.
pub(in crate::admin) fn is_part(path: &str) -> bool {
    PARTS.iter().any(|(part, ..)| *part == path)
}

/// One of them, as it is answered.
pub(super) fn part(kind: &'static str, text: &'static str) -> Response {
    let mut response = text.into_response();
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-cache"),
        (header::HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (header::HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    for (name, value) in headers {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}
