// Package opentelemetry makes spans of a florin client's calls, as an example of its hooks: copy what fits. It is a module of its
// own, so that the client depends on none of it.
package opentelemetry

import (
	"context"

	"github.com/florin-db/florin/clients/go"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// Spans returns hooks that make a span of each call, a child of the one in the caller's context. Requests that are sent again and
// second requests are events of it; attributes have the names of OpenTelemetry's conventions where these have one.
func Spans(tracer trace.Tracer) florin.Hooks {
	return florin.Hooks{
		RequestStart: func(ctx context.Context, request florin.RequestInfo) context.Context {
			ctx, _ = tracer.Start(ctx, "florin "+request.Operation, trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
				attribute.String("rpc.system.name", "florin"),
				attribute.String("rpc.method", request.Operation),
				attribute.Int("florin.users", request.Users),
			))
			return ctx
		},
		RequestEnd: func(ctx context.Context, outcome florin.Outcome) {
			span := trace.SpanFromContext(ctx)
			span.SetAttributes(
				attribute.String("rpc.response.status_code", outcome.Status),
				attribute.String("server.address", outcome.Node),
				attribute.Int("florin.requests", outcome.Requests),
				attribute.Bool("florin.hedged", outcome.Hedged),
			)
			// That there is no such user is an answer.
			if outcome.Err != nil && outcome.Status != florin.StatusNotFound.String() {
				span.SetAttributes(attribute.String("error.type", outcome.Status))
				// And not its text: a server's words may name the user.
				span.SetStatus(codes.Error, outcome.Status)
			}
			span.End()
		},
		Retry: func(ctx context.Context, retry florin.RetryInfo) {
			trace.SpanFromContext(ctx).AddEvent("retry", trace.WithAttributes(
				attribute.Int("attempt", retry.Attempt),
				attribute.String("server.address", retry.Node),
				attribute.String("after", retry.Status),
			))
		},
		Hedge: func(ctx context.Context, hedge florin.HedgeInfo) {
			trace.SpanFromContext(ctx).AddEvent("hedge", trace.WithAttributes(
				attribute.String("server.address", hedge.Node),
				attribute.Float64("waited_ms", float64(hedge.Waited.Microseconds())/1000),
			))
		},
	}
}
