package florin

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/florin-db/florin/clients/go/internal/fake"
	"github.com/florin-db/florin/clients/go/internal/frame"
)

// story is what hooks are told, a line each.
type story struct {
	mu    sync.Mutex
	lines []string
}

func (s *story) tell(format string, values ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, fmt.Sprintf(format, values...))
}

func (s *story) told() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.lines, "\n")
}

type callKey struct{}

// hooks tell the story, but for the connections; each call has a number, which its context carries.
func (s *story) hooks(t *testing.T) Hooks {
	var calls atomic.Int32
	number := func(ctx context.Context) any { return ctx.Value(callKey{}) }
	return Hooks{
		RequestStart: func(ctx context.Context, request RequestInfo) context.Context {
			call := calls.Add(1)
			s.tell("%d begins: %s of %d", call, request.Operation, request.Users)
			return context.WithValue(ctx, callKey{}, call)
		},
		RequestEnd: func(ctx context.Context, outcome Outcome) {
			if outcome.Duration <= 0 || (outcome.Err == nil) != (outcome.Status == "OK") {
				t.Errorf("got %+v", outcome)
			}
			s.tell("%v ends: %s of %d, %s, %d sent, hedged %v", number(ctx), outcome.Operation, outcome.Users, outcome.Status,
				outcome.Requests, outcome.Hedged)
		},
		Retry: func(ctx context.Context, retry RetryInfo) {
			if retry.Err == nil || retry.Node == "" || retry.Status != label(retry.Err) {
				t.Errorf("got %+v", retry)
			}
			s.tell("%v again: %s, attempt %d after %s", number(ctx), retry.Operation, retry.Attempt, retry.Status)
		},
		Hedge: func(ctx context.Context, hedge HedgeInfo) {
			if hedge.Waited <= 0 || hedge.First == hedge.Node {
				t.Errorf("got %+v", hedge)
			}
			s.tell("%v hedged: %s", number(ctx), hedge.Operation)
		},
	}
}

func TestHooksAreToldOfEveryStep(t *testing.T) {
	node := countedNode(t, 1)
	node.answers(func(request fake.Request) []byte {
		switch {
		case request.UserID == 1 && node.asked.Load() == 2:
			return fake.Refuse(request, uint8(StatusUnavailable), "warming up")
		case request.UserID == 9:
			return fake.Refuse(request, uint8(StatusNotFound), "never named")
		case request.UserID == 13:
			return []byte{}
		}
		return node.Answer(request)
	})
	var s story
	client := dial(t, node.Target, Options{Hooks: s.hooks(t)})
	check(t, client, 7)
	check(t, client, 1)
	if _, err := client.GetStatistics(t.Context(), 9, AllWindows); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	if _, err := client.GetBalances(t.Context(), []uint64{1, 2, 3}); err != nil {
		t.Error(err)
	}
	if _, err := client.Ping(t.Context(), []byte("here")); err != nil {
		t.Error(err)
	}
	gone, cancel := context.WithCancel(t.Context())
	before := node.asked.Load()
	go func() {
		eventually(t, "it is asked", func() bool { return node.asked.Load() > before })
		cancel()
	}()
	_, _ = client.GetBalance(gone, 13)
	_, _ = client.GetBalance(gone, 1)
	client.Close()
	_, _ = client.GetBalance(t.Context(), 1)
	same(t, s.told(), `1 begins: GetBalance of 1
1 ends: GetBalance of 1, OK, 1 sent, hedged false
2 begins: GetBalance of 1
2 again: GetBalance, attempt 2 after UNAVAILABLE
2 ends: GetBalance of 1, OK, 2 sent, hedged false
3 begins: GetStatistics of 1
3 ends: GetStatistics of 1, NOT_FOUND, 1 sent, hedged false
4 begins: GetBalances of 3
4 ends: GetBalances of 3, OK, 1 sent, hedged false
5 begins: Ping of 0
5 ends: Ping of 0, OK, 1 sent, hedged false
6 begins: GetBalance of 1
6 ends: GetBalance of 1, CANCELED, 1 sent, hedged false
7 begins: GetBalance of 1
7 ends: GetBalance of 1, CANCELED, 0 sent, hedged false
8 begins: GetBalance of 1
8 ends: GetBalance of 1, CLOSED, 0 sent, hedged false`)
	// Whatever else an error is, one that is over time is that.
	same(t, label(fmt.Errorf("%w (%w)", ErrStale, context.DeadlineExceeded)), "DEADLINE_EXCEEDED")
	same(t, label(&DisconnectedError{Address: "a:1", Cause: errSilent}), "DISCONNECTED")
	same(t, label(fmt.Errorf("%w: full", ErrQueueFull)), "QUEUE_FULL")
}

func TestHooksAreToldOfSecondRequestsAndWhoAnswered(t *testing.T) {
	var s story
	var answered atomic.Pointer[string]
	options := hedged(1)
	options.Hooks = s.hooks(t)
	end := options.Hooks.RequestEnd
	options.Hooks.RequestEnd = func(ctx context.Context, outcome Outcome) {
		answered.Store(&outcome.Node)
		end(ctx, outcome)
	}
	slow, other, client := two(t, options)
	slow.answers(silent)
	check(t, client, owned(client, slow, 1)[0])
	same(t, s.told(), `1 begins: GetBalance of 1
1 hedged: GetBalance
1 ends: GetBalance of 1, OK, 2 sent, hedged true`)
	same(t, *answered.Load(), seedOf(other.Node))
}

func TestHooksAreToldOfEveryConnection(t *testing.T) {
	var mu sync.Mutex
	made := map[string]int{}
	var failure error
	connect := func(connect ConnectInfo) {
		mu.Lock()
		defer mu.Unlock()
		if connect.Err != nil {
			failure = connect.Err
			return
		}
		made[connect.Node+" at "+connect.Address]++
	}
	node := fake.Start(t, 1, nil)
	client := dial(t, node.Target, Options{Hooks: Hooks{Connect: connect}})
	mu.Lock()
	shard := fmt.Sprintf("%s at 127.0.0.1:%d", seedOf(node), node.Ports()[0])
	if len(made) != 2 || made[seedOf(node)+" at "+seedOf(node)] != 1 || made[shard] != 1 || failure != nil {
		t.Errorf("got %v, %v", made, failure)
	}
	mu.Unlock()
	counters := client.Counters()
	same(t, counters.Connects, 2)
	same(t, counters.Disconnects, 0)
	node.Close()
	eventually(t, "a failure is told", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return errors.Is(failure, ErrDisconnected)
	})
	eventually(t, "both have ended", func() bool { return client.Counters().Disconnects >= 3 })
}

// Whoever has no hooks pays nothing for them.
func TestNoHooksCostNothing(t *testing.T) {
	var hooks Hooks
	call := newCall(frame.GetBalance)
	defer call.free()
	ctx := t.Context()
	allocations := testing.AllocsPerRun(100, func() {
		with, began := hooks.start(ctx, frame.GetBalance, 1)
		hooks.end(with, began, call, 1, attempts{}, nil)
	})
	same(t, allocations, 0)
	if _, began := hooks.start(ctx, frame.GetBalance, 1); !began.IsZero() {
		t.Error("nobody asked for the time")
	}
}

func TestAClientCountsWhatItDoes(t *testing.T) {
	node := countedNode(t, 1)
	client := dial(t, node.Target, Options{ConnectionsPerShard: 2})
	for userID := range uint64(10) {
		check(t, client, userID)
	}
	counters := client.Counters()
	same(t, counters, Counters{Requests: 10, Writes: 10, Replies: 10, Connects: 3})
	pools := client.Pool()
	same(t, len(pools), 1)
	same(t, pools[0], NodePool{Address: seedOf(node.Node), Shards: 1, Connections: 3, Good: 3})
	node.answers(silent)
	ctx, cancel := context.WithCancel(t.Context())
	var callers sync.WaitGroup
	for userID := range uint64(5) {
		callers.Go(func() { _, _ = client.GetBalance(ctx, userID) })
	}
	eventually(t, "five are under way", func() bool { return client.Pool()[0].InFlight == 5 })
	cancel()
	callers.Wait()
	same(t, client.Pool()[0].InFlight, 0)
	node.Close()
	eventually(t, "none is left", func() bool { return client.Pool()[0].Good == 0 })
	same(t, client.Pool()[0].Connections, 3)
}

// Whoever reads the package's page finds a sentence for each name.
func TestEveryExportedNameIsDocumented(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	names := 0
	need := func(name string, docs ...*ast.CommentGroup) {
		if !ast.IsExported(name) {
			return
		}
		names++
		for _, doc := range docs {
			if doc.Text() != "" {
				return
			}
		}
		t.Errorf("%s: expected a comment that says what it is", name)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, declaration := range file.Decls {
			switch declared := declaration.(type) {
			case *ast.FuncDecl:
				if declared.Name.Name != "Error" {
					need(declared.Name.Name, declared.Doc)
				}
			case *ast.GenDecl:
				for _, spec := range declared.Specs {
					switch named := spec.(type) {
					case *ast.TypeSpec:
						need(named.Name.Name, named.Doc, declared.Doc)
					case *ast.ValueSpec:
						for _, name := range named.Names {
							need(name.Name, named.Doc, named.Comment, declared.Doc)
						}
					}
				}
			}
		}
	}
	if names < 60 {
		t.Errorf("%d names are not the package", names)
	}
}
