package opentelemetry_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/florin-db/florin/clients/go"
	"github.com/florin-db/florin/clients/go/examples/opentelemetry"
	"github.com/florin-db/florin/clients/go/internal/fake"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

func ExampleSpans() {
	// In a program: target := "florin://127.0.0.1:7400", and an exporter by OTLP.
	target, end := fake.ForExample(1)
	defer end()
	spans := tracetest.NewInMemoryExporter()
	provider := sdk.NewTracerProvider(sdk.WithSyncer(spans))
	tracer := provider.Tracer("checkout")

	client, err := florin.New(target, florin.Options{Hooks: opentelemetry.Spans(tracer)})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	ctx, page := tracer.Start(context.Background(), "account page")
	if _, err := client.GetBalance(ctx, 42); err != nil {
		log.Fatal(err)
	}
	// The server has not seen version 8, and says so.
	if _, err := client.GetBalance(ctx, 42, florin.MinVersion(8), florin.Wait(time.Millisecond)); !errors.Is(err, florin.ErrStale) {
		log.Fatal(err)
	}
	page.End()

	for _, span := range spans.GetSpans() {
		isChild := span.Parent.SpanID() == page.SpanContext().SpanID()
		fmt.Println(span.Name, "child:", isChild, "status:", span.Status.Code)
	}
	// Output:
	// florin GetBalance child: true status: Unset
	// florin GetBalance child: true status: Error
	// account page child: false status: Unset
}
