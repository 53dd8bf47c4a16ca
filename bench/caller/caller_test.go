package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience is how long a server may take to answer.
const patience = time.Minute

// short is a run that ends soon; each of its goroutines asks at least once.
func short(target, ask string) settings {
	kind, err := parseKind(ask)
	if err != nil {
		panic(err)
	}
	return settings{target: target, kind: kind, goroutines: 4, seed: 1, duration: 300 * time.Millisecond}
}

func ask(t *testing.T, s settings, users []uint64) (*result, []string, error) {
	t.Helper()
	asker, err := newAsker(s)
	if err != nil {
		t.Fatal(err)
	}
	defer asker.Close()
	var events []string
	found, err := load(s, users, asker, func(event string) { events = append(events, event) })
	return found, events, err
}

// serve answers every request alike.
func serve(t *testing.T, code int, body string) string {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(code)
		fmt.Fprint(w, body)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

const balanceOf7 = `{"user_id":"7","version":"3","updated_at":"x","balances":[{"asset":"COIN","available":"5","held":"0"}]}`

func TestAnswersAreCountedAndTimed(t *testing.T) {
	found, events, err := ask(t, short(serve(t, 200, balanceOf7), "balance"), []uint64{7})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(events, []string{"begin", "end"}) {
		t.Errorf("events: %v", events)
	}
	if found.Served < 1 || found.Errors != 0 || found.P50NS <= 0 || found.P50NS > found.P99NS || found.P99NS > found.MaxNS {
		t.Errorf("%+v", found)
	}
	if found.UserSeconds+found.SystemSeconds <= 0 {
		t.Errorf("no CPU time was used: %+v", found)
	}
}

func TestWrongAnswersEndTheRun(t *testing.T) {
	for name, one := range map[string]struct {
		code int
		body string
	}{
		"another user":     {200, strings.Replace(balanceOf7, `"7"`, `"8"`, 1)},
		"version 0":        {200, strings.Replace(balanceOf7, `"3"`, `"0"`, 1)},
		"nothing held":     {200, `{"user_id":"7","version":"3","balances":[]}`},
		"no JSON":          {200, "hello"},
		"an unknown user":  {404, "{}"},
		"a wrong question": {400, "{}"},
	} {
		if _, _, err := ask(t, short(serve(t, one.code, one.body), "balance"), []uint64{7}); !errors.Is(err, errWrong) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestMissingAnswersAreCounted(t *testing.T) {
	for _, code := range []int{429, 503} {
		found, _, err := ask(t, short(serve(t, code, "{}"), "balance"), []uint64{7})
		if err != nil || found.Served != 0 || found.Errors < 1 || !strings.Contains(found.LastError, fmt.Sprint(code)) {
			t.Errorf("%d: %+v, %v", code, found, err)
		}
	}
}

// recorder answers at once, and remembers whom it was asked about.
type recorder struct {
	mu    sync.Mutex
	users []uint64
}

func (r *recorder) Ask(_ context.Context, users []uint64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.users = append(r.users, users...)
	return nil
}

func (r *recorder) Close() {}

func TestTheSameSeedAsksTheSame(t *testing.T) {
	users := []uint64{1, 2, 3, 4, 5, 6, 7, 8}
	asked := func(seed uint64, rate float64) []uint64 {
		s := short("", "batch:3")
		s.goroutines, s.seed, s.rate = 1, seed, rate
		r := new(recorder)
		if _, err := load(s, users, r, func(string) {}); err != nil {
			t.Fatal(err)
		}
		return r.users
	}
	// With a rate, how much is due until the end is drawn too: the whole run is the same, however slow the host.
	first := asked(1, 1000)
	if len(first) < 100 || !slices.Equal(first, asked(1, 1000)) {
		t.Errorf("the same seed has asked about others: %v", first)
	}
	if slices.Equal(first, asked(2, 1000)) {
		t.Error("another seed has asked the same")
	}
}

func TestBothClientsReadFlorin(t *testing.T) {
	users := make([]uint64, 64)
	for index := range users {
		users[index] = uint64(index + 1)
	}
	address, _ := startNode(t, len(users), "--shards", "1")
	for _, target := range []string{"http://" + address, "florin://" + address} {
		for _, what := range []string{"balance", "statistics", "batch:5"} {
			found, _, err := ask(t, short(target, what), users)
			if err != nil || found.Served < 1 || found.Errors != 0 {
				t.Errorf("%s, %s: %+v, %v", target, what, found, err)
			}
		}
		if _, _, err := ask(t, short(target, "balance"), []uint64{999_999}); !errors.Is(err, errWrong) {
			t.Errorf("%s knows a user that there is not: %v", target, err)
		}
	}
}

// command is florin, as it was built, with these arguments.
func command(arguments ...string) *exec.Cmd {
	binary := os.Getenv("FLORIN")
	if binary == "" {
		binary = "../../target/debug/florin"
	}
	return exec.Command(binary, arguments...)
}

// startNode starts a node on a ledger of its own, waits until it answers, and returns its address and all that it has said.
func startNode(t *testing.T, users int, more ...string) (address, all string) {
	t.Helper()
	ledger := "sqlite:" + filepath.Join(t.TempDir(), "ledger.db")
	generate := command("generate", "--ledger", ledger, "--users", fmt.Sprint(users), "--transactions", "1000", "--seed", "7")
	if out, err := generate.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s(build it: cargo build --workspace)", generate, err, out)
	}
	said := filepath.Join(t.TempDir(), "said")
	output, err := os.Create(said)
	if err != nil {
		t.Fatal(err)
	}
	node := command(append([]string{"serve", "--ledger", ledger, "--listen", "127.0.0.1:0", "--shard-listen", "127.0.0.1:0",
		"--admin", "off"}, more...)...)
	node.Stdout, node.Stderr = output, output
	if err := node.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = node.Process.Signal(os.Interrupt)
		if err := node.Wait(); err != nil {
			t.Errorf("florin did not end well: %v", err)
		}
	})
	pattern := regexp.MustCompile(`any shard +(\S+)`)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for ticks := time.Tick(10 * time.Millisecond); ; {
		text, err := os.ReadFile(said)
		if found := pattern.FindSubmatch(text); found != nil && answers(ctx, string(found[1])) {
			return string(found[1]), string(text)
		}
		select {
		case <-ticks:
		case <-ctx.Done():
			t.Fatalf("florin does not answer: %v\n%s", err, text)
		}
	}
}

func answers(ctx context.Context, address string) bool {
	kind, _ := parseKind("balance")
	asker, err := newAsker(settings{target: "http://" + address, kind: kind, goroutines: 1})
	if err != nil {
		return false
	}
	defer asker.Close()
	return asker.Ask(ctx, []uint64{1}) == nil
}

func TestWrongFlagsAreNamed(t *testing.T) {
	for want, arguments := range map[string][]string{
		"--ask": {"--users", "x", "--ask", "batch:0"}, "--users": {}, "--goroutines": {"--users", "x", "--goroutines", "0"},
		"--rate": {"--users", "x", "--rate", "NaN"}, "flags alone": {"--users", "x", "y"}, "--duration": {"--users", "x", "--duration", "0s"},
	} {
		if _, err := parse(arguments); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v", arguments, err)
		}
	}
	for _, target := range []string{"ftp://x", "florin://x", ""} {
		if _, err := newAsker(short(target, "balance")); err == nil || !strings.Contains(err.Error(), "--target") {
			t.Errorf("%q: %v", target, err)
		}
	}
	path := filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(path, []byte("1\nx\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readUsers(path); err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("%v", err)
	}
}

func TestAWriteIsATransactionOfTheContract(t *testing.T) {
	pattern := regexp.MustCompile(`^\{"transaction_id":"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-a[0-9a-f]{3}-[0-9a-f]{12}","user_id":"7",` +
		`"asset":"COIN","kind":"recharge","amount":"1","occurred_at":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"\}$`)
	if one := transaction(7); !pattern.Match(one) {
		t.Errorf("%s", one)
	}
	body := `{"transactions":[{"transaction_id":"x","user_id":"7","version":"4","duplicate":false}]}`
	if found, _, err := ask(t, short(serve(t, 200, body), "write"), []uint64{7}); err != nil || found.Served < 1 {
		t.Errorf("%+v, %v", found, err)
	}
}
