//! Spans of OpenTelemetry from a client's hooks. [`Spans`] is an example: copy what fits. The client itself depends on none of it.

use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use crate::fake::{Answer, Asked, Fake, Map, user};
use florin_client::{Client, HedgeInfo, Hooks, Outcome, RequestHooks, RequestInfo, RetryInfo};
use florin_schema::Status;
use opentelemetry::context::FutureExt;
use opentelemetry::trace::{
    self, Span, SpanBuilder, SpanContext, SpanId, SpanKind, TraceContextExt, TraceFlags, TraceId, TraceState,
    Tracer,
};
use opentelemetry::{Context, KeyValue};

/// Makes a span of each call, a child of the caller's. Requests that are sent again and second requests are events of it; attributes
/// have the names of OpenTelemetry's conventions where these have one.
struct Spans<T> {
    tracer: T,
}

/// A call's span.
struct Call(Context);

impl<T: Tracer<Span: Send + Sync> + Send + Sync + 'static> Hooks for Spans<T> {
    fn request(&self, request: &RequestInfo) -> Option<Box<dyn RequestHooks>> {
        let span = self.tracer.span_builder(format!("florin {}", request.operation));
        let span = span.with_kind(SpanKind::Client).with_attributes([
            KeyValue::new("rpc.system.name", "florin"),
            KeyValue::new("rpc.method", request.operation),
            KeyValue::new("florin.users", i64::try_from(request.users).unwrap_or(i64::MAX)),
        ]);
        Some(Box::new(Call(Context::current_with_span(span.start(&self.tracer)))))
    }
}

impl RequestHooks for Call {
    fn retry(&self, retry: &RetryInfo<'_>) {
        let attributes = vec![
            KeyValue::new("attempt", i64::from(retry.attempt)),
            KeyValue::new("server.address", retry.node.to_string()),
            KeyValue::new("after", retry.error.label()),
        ];
        self.0.span().add_event("retry", attributes);
    }

    fn hedge(&self, hedge: &HedgeInfo<'_>) {
        let attributes = vec![
            KeyValue::new("server.address", hedge.node.to_string()),
            KeyValue::new("waited_ms", hedge.waited.as_secs_f64() * 1_000.0),
        ];
        self.0.span().add_event("hedge", attributes);
    }

    fn end(self: Box<Self>, outcome: &Outcome<'_>) {
        let span = self.0.span();
        span.set_attribute(KeyValue::new("rpc.response.status_code", outcome.status));
        span.set_attribute(KeyValue::new("florin.requests", i64::from(outcome.requests)));
        span.set_attribute(KeyValue::new("florin.hedged", outcome.is_hedged));
        if let Some(node) = outcome.node {
            span.set_attribute(KeyValue::new("server.address", node.to_string()));
        }
        // That there is no such user is an answer. An error's text is left out: a server's words may name the user.
        if outcome.error.is_some_and(|error| error.status() != Some(Status::NotFound)) {
            span.set_attribute(KeyValue::new("error.type", outcome.status));
            span.set_status(trace::Status::error(outcome.status));
        }
        span.end();
    }
}

/// A tracer that keeps the spans that have ended, as a collector would. A program has that of `opentelemetry_sdk`.
#[derive(Clone, Default)]
struct Kept {
    ended: Arc<Mutex<Vec<Told>>>,
    begun: Arc<AtomicU64>,
}

/// What a span has told.
#[derive(Clone, Debug)]
struct Told {
    name: String,
    context: SpanContext,
    parent: SpanId,
    status: trace::Status,
    attributes: Vec<KeyValue>,
    events: Vec<String>,
}

struct KeptSpan {
    told: Told,
    kept: Kept,
}

impl Tracer for Kept {
    type Span = KeptSpan;

    fn build_with_context(&self, builder: SpanBuilder, parent: &Context) -> KeptSpan {
        let parent = parent.span().span_context().span_id();
        let id = SpanId::from(self.begun.fetch_add(1, SeqCst) + 1);
        let context = SpanContext::new(TraceId::from(1), id, TraceFlags::SAMPLED, false, TraceState::NONE);
        let told = Told {
            name: builder.name.into_owned(),
            context,
            parent,
            status: trace::Status::Unset,
            attributes: builder.attributes.unwrap_or_default(),
            events: Vec::new(),
        };
        KeptSpan { told, kept: self.clone() }
    }
}

impl Span for KeptSpan {
    fn add_event_with_timestamp<T>(&mut self, name: T, _at: SystemTime, _attributes: Vec<KeyValue>)
    where
        T: Into<Cow<'static, str>>,
    {
        self.told.events.push(name.into().into_owned());
    }

    fn span_context(&self) -> &SpanContext {
        &self.told.context
    }

    fn is_recording(&self) -> bool {
        true
    }

    fn set_attribute(&mut self, attribute: KeyValue) {
        self.told.attributes.push(attribute);
    }

    fn set_status(&mut self, status: trace::Status) {
        self.told.status = status;
    }

    fn update_name<T>(&mut self, name: T)
    where
        T: Into<Cow<'static, str>>,
    {
        self.told.name = name.into().into_owned();
    }

    fn add_link(&mut self, _other: SpanContext, _attributes: Vec<KeyValue>) {}

    fn end_with_timestamp(&mut self, _at: SystemTime) {
        self.kept.ended.lock().unwrap().push(self.told.clone());
    }
}

#[tokio::test]
async fn each_call_is_a_span_below_the_callers() {
    let asked_of_one = Mutex::new(0);
    let node = Fake::tcp(Map::one_shard(), move |asked: &Asked| match asked.user_id() {
        1 => {
            let mut times = asked_of_one.lock().unwrap();
            *times += 1;
            match *times {
                1 => Answer::Bytes(asked.reply(Status::Unavailable, 0, b"warming up")),
                _ => Answer::Bytes(asked.right_answer()),
            }
        }
        2 => Answer::Bytes(asked.reply(Status::Stale, 0, b"min_version: not yet")),
        _ => Answer::Bytes(asked.reply(Status::NotFound, 0, b"user_id: never named")),
    })
    .await;
    let tracer = Kept::default();
    let client =
        Client::builder().hooks(Spans { tracer: tracer.clone() }).connect(&*node.address).await.unwrap();

    let page = Context::current_with_span(tracer.start("account page"));
    client.get_balance(user(1)).with_context(page.clone()).await.unwrap();
    client.get_balance(user(2)).with_context(page.clone()).await.unwrap_err();
    client.get_balance(user(3)).await.unwrap_err();
    page.span().end();

    let kept = tracer.ended.lock().unwrap();
    let page_id = page.span().span_context().span_id();
    let seen: Vec<_> = kept.iter().map(|span| (&*span.name, span.parent, span.status.clone())).collect();
    assert_eq!(
        seen,
        [
            ("florin GetBalance", page_id, trace::Status::Unset),
            ("florin GetBalance", page_id, trace::Status::error("STALE")),
            ("florin GetBalance", SpanId::INVALID, trace::Status::Unset),
            ("account page", SpanId::INVALID, trace::Status::Unset),
        ]
    );
    assert_eq!(kept[0].events, ["retry"]);
    assert!(kept[0].attributes.contains(&KeyValue::new("florin.requests", 2)));
    assert!(kept[1].attributes.contains(&KeyValue::new("error.type", "STALE")));
}
