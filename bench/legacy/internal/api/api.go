// Package api is the HTTP surface: the three reads of the contract and the write, on net/http or on fasthttp.
//
// What a request asks, and what is answered, is decided here once, for both; std.go and fast.go carry it to and fro.
package api

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"

	"github.com/florin-db/florin/bench/legacy/internal/ledger"
	"github.com/florin-db/florin/bench/legacy/internal/reads"
)

const (
	jsonType    = "application/json"
	problemType = "application/problem+json"
	// readBodyBytesMax is the longest body of a read; a batch of 1,024 ids of 19 digits has half of it.
	readBodyBytesMax = 48 << 10
	// writeBodyBytesMax is the longest body of a write.
	writeBodyBytesMax = 8 << 20

	transactionsPath = "/v1/transactions"
)

// Observer is told about each request, for metrics: its route, and how it ended.
type Observer interface {
	Observe(route string, code int, start int64)
	// Now is the start to give to Observe.
	Now() int64
}

// API answers requests.
type API struct {
	Source   reads.Source
	Codec    Codec
	Observer Observer
	// Ledger takes writes; nil where the service was given none.
	Ledger ledger.Ledger
	// Appended is called after each write.
	Appended func()
}

// Reply is what to answer.
type Reply struct {
	Code   int
	Type   string
	Body   []byte
	Origin reads.Origin
	// Version is the account's, in answers about one user; nil in others.
	Version *uint64
	// Allow are the methods of a 405.
	Allow  string
	Closes bool

	statistics reads.Statistics
	batch      reads.Batch
	request    batchRequest
	input      []byte
}

var replies = sync.Pool{New: func() any { return new(Reply) }}

// keptBytesMax is the capacity above which a reply's buffers are not kept.
const keptBytesMax = 1 << 20

func newReply() *Reply { return replies.Get().(*Reply) }

func (r *Reply) free() {
	if cap(r.Body) > keptBytesMax || cap(r.input) > keptBytesMax {
		return
	}
	// What the view holds must not be kept alive from here.
	clear(r.batch.Balances)
	r.batch.Balances = r.batch.Balances[:0]
	*r = Reply{
		Body: r.Body[:0], statistics: r.statistics, batch: r.batch, request: r.request, input: r.input[:0],
	}
	replies.Put(r)
}

func isWrite(target string) bool {
	path, _, _ := strings.Cut(target, "?")
	return path == transactionsPath
}

// bodyLimit is the longest body that the request may have.
func bodyLimit(target string) int {
	if isWrite(target) {
		return writeBodyBytesMax
	}
	return readBodyBytesMax
}

// answer fills the reply.
func (a *API) answer(ctx context.Context, head Head, body []byte, reply *Reply) {
	start := a.Observer.Now()
	name := "transactions"
	var err error
	if isWrite(head.Target()) {
		err = a.write(ctx, head, body, reply)
	} else {
		name, err = a.read(ctx, head, body, reply)
	}
	if err != nil {
		a.refuse(err, reply)
	}
	a.Observer.Observe(name, reply.Code, start)
}

// refuseFraming answers a request whose body was not read.
func (a *API) refuseFraming(problem *problem, reply *Reply) {
	start := a.Observer.Now()
	problem.closes = true
	a.refuse(problem, reply)
	a.Observer.Observe("framing", reply.Code, start)
}

func bodyTooLong(limit, bytes int) *problem {
	return bad(413, "body: expected at most %d bytes, got %d", limit, bytes)
}

func chunkedBody() *problem {
	return bad(411, "content-length: expected one in place of Transfer-Encoding: chunked")
}

func (a *API) read(ctx context.Context, head Head, body []byte, reply *Reply) (string, error) {
	route, problem := find(head)
	if problem != nil {
		return "unknown", problem
	}
	name := resourceNames[route.resource]
	if route.resource != batch && len(body) > 0 {
		return name, bad(400, "body: expected none with GET and HEAD, got %d bytes", len(body))
	}
	var value any
	var err error
	switch route.resource {
	case balanceOf:
		var balance *reads.Balance
		if balance, reply.Origin, err = a.Source.Balance(ctx, route.userID, route.freshness); err == nil {
			value, reply.Version = balance, &balance.Version
		}
	case statisticsOf:
		value = &reply.statistics
		reply.Origin, err = a.Source.Statistics(ctx, route.userID, route.windows, route.freshness, &reply.statistics)
		reply.Version = &reply.statistics.Version
	case batch:
		if problem := readBatch(a.Codec, body, &reply.request); problem != nil {
			return name, problem
		}
		value = &reply.batch
		reply.Origin, err = a.Source.Balances(ctx, reply.request.UserIDs.list, route.freshness, &reply.batch)
	}
	if err != nil {
		return name, err
	}
	reply.Code, reply.Type = 200, jsonType
	reply.Body, err = a.Codec.Append(reply.Body[:0], value)
	return name, err
}

// refuse turns an error into its answer.
func (a *API) refuse(err error, reply *Reply) {
	var refusal *reads.Refusal
	var why *problem
	switch {
	case errors.As(err, &why):
		reply.Origin = a.Source.Origin()
	case errors.As(err, &refusal):
		reply.Origin = refusal.Origin
		why = &problem{code: codes[refusal.Status], detail: refusal.Message}
	default:
		slog.Error("a request failed", "error", err)
		reply.Origin = a.Source.Origin()
		why = &problem{code: 500, detail: "a defect of this service's; its log says more"}
	}
	reply.Code, reply.Type, reply.Version = why.code, problemType, nil
	reply.Allow, reply.Closes = why.allow, why.closes
	reply.Body = why.appendTo(reply.Body[:0])
}
