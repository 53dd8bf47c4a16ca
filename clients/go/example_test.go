package florin_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"sync/atomic"
	"time"

	"github.com/florin-db/florin/clients/go"
	"github.com/florin-db/florin/clients/go/internal/fake"
)

// connect stands for what a program does once: see the example of New.
func connect() (*florin.Client, func()) {
	target, end := fake.ForExample(2)
	client, err := florin.New(target, florin.Options{})
	if err != nil {
		log.Fatal(err)
	}
	return client, func() {
		client.Close()
		end()
	}
}

func ExampleNew() {
	// In a program: target := "florin://127.0.0.1:7400"
	target, end := fake.ForExample(2)
	defer end()

	client, err := florin.New(target, florin.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := client.Ready(ctx); err != nil {
		log.Fatal(err)
	}
	fmt.Println(client.Shards(), "shards")
	// Output: 2 shards
}

func ExampleClient_GetBalance() {
	client, end := connect()
	defer end()

	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	balance, err := client.GetBalance(ctx, 42)
	switch {
	case errors.Is(err, florin.ErrNotFound):
		fmt.Println("never seen")
		return
	case err != nil:
		log.Fatal(err)
	}
	for _, held := range balance.Assets {
		fmt.Println(held.Asset, held.Available, held.Held)
	}
	fmt.Println("version", balance.Version, "as of", balance.AsOf.Format(time.RFC3339))
	// Output:
	// COIN 42 0
	// version 7 as of 2026-11-22T04:05:06Z
}

// A write returns the account's version; MinVersion reads an answer that includes it.
func ExampleMinVersion() {
	client, end := connect()
	defer end()

	written := uint64(7)
	balance, err := client.GetBalance(context.Background(), 42, florin.MinVersion(written), florin.Wait(100*time.Millisecond))
	if errors.Is(err, florin.ErrStale) {
		fmt.Println("the node has not seen the write within 100 ms")
		return
	}
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(balance.Version >= written)
	// Output: true
}

func ExampleClient_GetStatistics() {
	client, end := connect()
	defer end()

	statistics, err := client.GetStatistics(context.Background(), 42, florin.Only(florin.Hours24, florin.Lifetime))
	if err != nil {
		log.Fatal(err)
	}
	for _, asset := range statistics.Assets {
		day := asset.ByWindow[florin.Hours24]
		fmt.Println(asset.Asset, day.CreditCount, day.CreditSum, day.DebitCount, day.DebitSum, day.LargestDebit)
	}
	// Output: COIN 1 500 2 300 200
}

func ExampleClient_GetBalances() {
	client, end := connect()
	defer end()

	batch, err := client.GetBalances(context.Background(), []uint64{3, 1, 3})
	if err != nil {
		log.Fatal(err)
	}
	for _, entry := range batch.Entries {
		if entry.Status != florin.StatusOK {
			fmt.Println(entry.UserID, entry.Status)
			continue
		}
		coin, _ := entry.Balance.Asset("COIN")
		fmt.Println(entry.UserID, coin.Available)
	}
	// Output:
	// 3 3
	// 1 1
	// 3 3
}

func ExampleClient_Ping() {
	client, end := connect()
	defer end()

	origin, err := client.Ping(context.Background(), []byte("there?"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("as of", origin.AsOf.Format(time.RFC3339))
	// Output: as of 2026-11-22T04:05:06Z
}

// Where a node stands still for a moment, its users are asked of another.
func ExampleHedge() {
	// In a program: target := "florin://a:7400,b:7400"
	target, end := fake.ForExample(2)
	defer end()

	client, err := florin.New(target, florin.Options{
		// What 99 of 100 requests stay below; of 100 requests, no more than 10 are sent twice.
		Hedge: florin.Hedge{After: 5 * time.Millisecond, Share: 0.1},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	for userID := range uint64(100) {
		if _, err := client.GetBalance(ctx, userID); err != nil {
			log.Fatal(err)
		}
	}
	counters := client.Counters()
	fmt.Println(counters.Hedges <= 10, counters.HedgesWon <= counters.Hedges)
	// Output: true true
}

// Counts calls by how they ended. Spans of OpenTelemetry: examples/opentelemetry.
func ExampleHooks() {
	// In a program: target := "florin://127.0.0.1:7400"
	target, end := fake.ForExample(1)
	defer end()

	var answered, failed atomic.Int64
	client, err := florin.New(target, florin.Options{Hooks: florin.Hooks{
		RequestEnd: func(_ context.Context, outcome florin.Outcome) {
			if outcome.Err == nil {
				answered.Add(1)
			} else {
				failed.Add(1)
			}
		},
		Retry: func(_ context.Context, retry florin.RetryInfo) {
			log.Printf("%s is sent again to %s after %v", retry.Operation, retry.Node, retry.Err)
		},
	}})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	if _, err := client.GetBalance(context.Background(), 42); err != nil {
		log.Fatal(err)
	}
	fmt.Println(answered.Load(), "answered,", failed.Load(), "failed")
	// Output: 1 answered, 0 failed
}

func ExampleClient_Counters() {
	client, end := connect()
	defer end()

	for userID := range uint64(3) {
		if _, err := client.GetBalance(context.Background(), userID); err != nil {
			log.Fatal(err)
		}
	}
	counters := client.Counters()
	fmt.Println(counters.Requests, "requests in", counters.Writes, "writes,", counters.Retries, "sent again")
	// Output: 3 requests in 3 writes, 0 sent again
}

func ExampleClient_Pool() {
	client, end := connect()
	defer end()

	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := client.Ready(ctx); err != nil {
		log.Fatal(err)
	}
	for _, node := range client.Pool() {
		fmt.Println(node.Good, "of", node.Connections, "connections to", node.Shards, "shards,", node.InFlight, "in flight")
	}
	// Output: 3 of 3 connections to 2 shards, 0 in flight
}
