// Command legacy is the Go service that florin replaces: balances, statistics and batches over HTTP and JSON, from a view
// in memory of the ledger, and the writes that keep that ledger. README.md says how it was tuned.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/florin-db/florin/bench/legacy/internal/api"
	"github.com/florin-db/florin/bench/legacy/internal/backend"
	"github.com/florin-db/florin/bench/legacy/internal/domain"
	"github.com/florin-db/florin/bench/legacy/internal/ledger"
	"github.com/florin-db/florin/bench/legacy/internal/ops"
	"github.com/florin-db/florin/bench/legacy/internal/reads"
	"github.com/florin-db/florin/bench/legacy/internal/view"
)

// drainTimeout bounds how long requests under way may take once the service is told to end.
const drainTimeout = 10 * time.Second

// settings are the command's flags.
type settings struct {
	ledger, listen, now, http, json string
	backend                         backend.Target
	gcPercent                       int
	memoryLimit                     int64
	poll, maxStaleness              time.Duration
}

func parse(arguments []string) (settings, error) {
	var s settings
	flags := flag.NewFlagSet("legacy", flag.ContinueOnError)
	flags.StringVar(&s.ledger, "ledger", "", "the ledger, `sqlite:PATH` or postgres://USER@HOST:PORT/DATABASE")
	flags.StringVar(&s.listen, "listen", "127.0.0.1:7500", "`ADDR` to serve on; port 0 picks one and prints it")
	flags.StringVar(&s.now, "now", "", "fix the clock at `TIME`, in RFC 3339, to replay history")
	flags.StringVar(&s.backend.Address, "backend", "", "answer the reads from `florin://HOST:PORT`, or florins:// by TLS, instead of from memory")
	flags.StringVar(&s.backend.TokenFile, "token-file", "", "the `FILE` with the token that proves to the backend who asks")
	flags.StringVar(&s.backend.Authorities, "tls-ca", "", "the `FILE` with the authorities of the backend's certificate")
	flags.StringVar(&s.backend.Certificate, "tls-cert", "", "the `FILE` with the certificate that proves to the backend who asks")
	flags.StringVar(&s.backend.Key, "tls-key", "", "the `FILE` with its private key")
	flags.StringVar(&s.http, "http", "std", "the HTTP library: std or fasthttp")
	flags.StringVar(&s.json, "json", "std", "the JSON library: std or sonic")
	flags.IntVar(&s.gcPercent, "gogc", 400, "GOGC: how many percent the heap may grow before it is collected")
	flags.Int64Var(&s.memoryLimit, "memory-limit", 0, "GOMEMLIMIT, in `MiB`; 0 leaves it to the environment")
	flags.DurationVar(&s.poll, "poll", 5*time.Millisecond, "how often to look for new rows")
	flags.DurationVar(&s.maxStaleness, "max-staleness", 30*time.Second, "how old a view may be answered from")
	if err := flags.Parse(arguments); err != nil {
		return s, err
	}
	switch {
	case flags.NArg() > 0:
		return s, fmt.Errorf("expected flags alone, got %q", flags.Arg(0))
	case s.ledger == "" && s.backend.Address == "":
		return s, errors.New("give --ledger " + ledger.Expected + ", or --backend florin://HOST:PORT, or both")
	case s.ledger != "" && !ledger.IsAddress(s.ledger):
		return s, fmt.Errorf("--ledger: expected %s, got %q", ledger.Expected, s.ledger)
	case api.Servers[s.http] == nil:
		return s, fmt.Errorf("--http: expected std or fasthttp, got %q", s.http)
	case api.Codecs[s.json] == nil:
		return s, fmt.Errorf("--json: expected std or sonic, got %q", s.json)
	case s.poll <= 0:
		return s, fmt.Errorf("--poll: expected a duration above 0, got %v", s.poll)
	}
	return s, nil
}

func main() {
	s, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "legacy:", err)
		os.Exit(2)
	}
	if err := run(s); err != nil {
		fmt.Fprintln(os.Stderr, "legacy:", err)
		os.Exit(1)
	}
}

func run(s settings) error {
	tune(s)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()

	service := &api.API{Codec: api.Codecs[s.json], Appended: func() {}}
	if s.ledger != "" {
		opened, err := ledger.Open(ctx, s.ledger)
		if err != nil {
			return err
		}
		defer opened.Close()
		service.Ledger = opened
	}
	source, memory, err := source(ctx, s, service)
	if err != nil {
		return err
	}
	service.Source = source
	metrics := ops.NewMetrics(memory)
	service.Observer = metrics

	listener, err := net.Listen("tcp", s.listen)
	if err != nil {
		return err
	}
	server := api.Servers[s.http](service, metrics.Handler(source), ops.Paths)
	slog.Info("serving", "address", listener.Addr().String(), "http", s.http, "json", s.json)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.Background(), drainTimeout)
	defer cancel()
	return server.Shutdown(drain)
}

// tune sets the collector. The environment's GOGC and GOMEMLIMIT, where given, stand.
func tune(s settings) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(s.gcPercent)
	}
	if s.memoryLimit > 0 {
		debug.SetMemoryLimit(s.memoryLimit << 20)
	}
}

// source is where the reads are answered from; the view too, where that is in memory.
func source(ctx context.Context, s settings, service *api.API) (reads.Source, *view.View, error) {
	if s.backend.Address != "" {
		node, err := backend.Dial(s.backend)
		return node, nil, err
	}
	clock := view.System
	if s.now != "" {
		us, ok := domain.ParseTime(s.now)
		if !ok {
			return nil, nil, fmt.Errorf("--now: expected a time like 1994-03-31T23:59:59Z, got %q", s.now)
		}
		clock = view.Fixed(us)
	}
	memory := view.New(clock, s.maxStaleness)
	nudge := make(chan struct{}, 1)
	service.Appended = func() {
		select {
		case nudge <- struct{}{}:
		default:
		}
	}
	go memory.Follow(ctx, service.Ledger, s.poll, nudge)
	return memory, memory, nil
}
