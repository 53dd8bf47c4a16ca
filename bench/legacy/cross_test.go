package main

import (
	"bufio"
	"bytes"
	"database/sql"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/florin-db/florin/bench/legacy/internal/pgtest"
)

// This test holds the service against florin: the same ledger, the same clock, and every body the same to the byte. It
// needs florin's binary, at FLORIN or built in the repository's target folder; `make test-go` sees to that.

// patience is how long anything may take that has to come.
const patience = 60 * time.Second

// bank is a bank's real transactions, where they lie beside the checkout.
const bank = "../../../shared/data/czech-bank-1993.csv.gz"

func florinBinary(t *testing.T) string {
	t.Helper()
	return pgtest.Florin(t, "../..")
}

// legacyBinary builds the service once for all tests.
var legacyBinary = sync.OnceValues(func() (string, error) {
	folder, err := os.MkdirTemp("", "legacy")
	if err != nil {
		return "", err
	}
	path := filepath.Join(folder, "legacy")
	build := exec.Command("go", "build", "-o", path, ".")
	// As it is vetted: what it needs is compiled once.
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, output)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if path, err := legacyBinary(); err == nil {
		os.RemoveAll(filepath.Dir(path))
	}
	os.Exit(code)
}

// process is a server under test.
type process struct {
	name    string
	address string
	command *exec.Cmd
	mu      sync.Mutex
	output  strings.Builder
	changed chan struct{}
	// ended is closed when it has, with this.
	ended chan struct{}
	err   error
}

func (p *process) Write(text []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.output.Write(text)
	select {
	case p.changed <- struct{}{}:
	default:
	}
	return len(text), nil
}

func (p *process) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.output.String()
}

// start runs a server until the test ends, and waits until it has said its address, as the pattern's first group.
func start(t *testing.T, name string, address *regexp.Regexp, path string, arguments ...string) *process {
	t.Helper()
	p := &process{name: name, command: exec.Command(path, arguments...), changed: make(chan struct{}, 1), ended: make(chan struct{})}
	p.command.Stdout, p.command.Stderr = p, p
	if err := p.command.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.err = p.command.Wait()
		close(p.ended)
	}()
	t.Cleanup(func() {
		if err := p.command.Process.Signal(os.Interrupt); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if <-p.ended; p.err != nil {
			t.Errorf("%s did not end well: %v\n%s", name, p.err, p.said())
		}
	})
	deadline := time.After(patience)
	for {
		if found := address.FindStringSubmatch(p.said()); found != nil {
			p.address = found[1]
			return p
		}
		select {
		case <-p.changed:
		case <-p.ended:
			t.Fatalf("%s ended before it said an address: %v\n%s", name, p.err, p.said())
		case <-deadline:
			t.Fatalf("%s said no address within %v:\n%s", name, patience, p.said())
		}
	}
}

var (
	florinAddress = regexp.MustCompile(`any shard +(\S+)`)
	legacyAddress = regexp.MustCompile(`address=(\S+)`)
)

// servers starts florin, and the service in each of its forms, on one ledger.
func servers(t *testing.T, ledger, now string) (florin *process, legacies []*process) {
	t.Helper()
	binary, err := legacyBinary()
	if err != nil {
		t.Fatal(err)
	}
	florin = start(t, "florin", florinAddress, florinBinary(t), "serve", "--ledger", ledger, "--now", now,
		"--listen", "127.0.0.1:0", "--shard-listen", "127.0.0.1:0", "--admin", "off")
	for _, flags := range [][]string{
		{"--http", "std", "--json", "std"},
		{"--http", "fasthttp", "--json", "sonic"},
		{"--http", "std", "--json", "sonic", "--backend", "florin://" + florin.address},
	} {
		arguments := append([]string{"--ledger", ledger, "--now", now, "--listen", "127.0.0.1:0"}, flags...)
		legacies = append(legacies, start(t, strings.Join(flags, " "), legacyAddress, binary, arguments...))
	}
	awaitOK(t, florin, "/v1/users/1/balance", 404)
	for _, legacy := range legacies {
		awaitOK(t, legacy, "/readyz", 0)
	}
	return florin, legacies
}

// awaitOK waits until the target answers 200, or the other code.
func awaitOK(t *testing.T, p *process, target string, other int) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; {
		response, err := http.Get("http://" + p.address + target)
		if err == nil {
			response.Body.Close()
			if response.StatusCode == 200 || response.StatusCode == other {
				return
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s is not ready: %v\n%s", p.name, err, p.said())
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// caller is a keep-alive connection that sends requests as they are, legal or not.
type caller struct {
	address string
	socket  net.Conn
	reader  *bufio.Reader
}

// answer is what must be the same of two answers.
type answer struct {
	code                       int
	contentType, version, body string
}

func (c *caller) ask(t *testing.T, request string) answer {
	t.Helper()
	if c.socket == nil {
		socket, err := net.Dial("tcp", c.address)
		if err != nil {
			t.Fatal(err)
		}
		c.socket, c.reader = socket, bufio.NewReader(socket)
	}
	if err := c.socket.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c.socket, request); err != nil {
		t.Fatal(err)
	}
	method, _, _ := strings.Cut(request, " ")
	response, err := http.ReadResponse(c.reader, &http.Request{Method: method})
	if err != nil {
		t.Fatalf("%.200q: %v", request, err)
	}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatalf("%.200q: %v", request, err)
	}
	if response.Close {
		c.close()
	}
	header := response.Header
	return answer{response.StatusCode, header.Get("Content-Type"), header.Get("Florin-Version"), string(body)}
}

func (c *caller) close() {
	if c.socket != nil {
		c.socket.Close()
		c.socket = nil
	}
}

func get(format string, values ...any) string {
	return "GET " + fmt.Sprintf(format, values...) + " HTTP/1.1\r\nHost: x\r\n\r\n"
}

func post(body string) string {
	return fmt.Sprintf("POST /v1/balances:batchGet HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		len(body), body)
}

// compare sends every request to every server.
func compare(t *testing.T, florin *process, legacies []*process, requests []string) {
	t.Helper()
	reference := caller{address: florin.address}
	defer reference.close()
	want := make([]answer, len(requests))
	for index, request := range requests {
		want[index] = reference.ask(t, request)
	}
	for _, legacy := range legacies {
		other := caller{address: legacy.address}
		wrong := 0
		for index, request := range requests {
			if got := other.ask(t, request); got != want[index] {
				t.Errorf("%s: %.300q\ngot  %+v\nwant %+v", legacy.name, request, got, want[index])
				if wrong++; wrong == 10 {
					break
				}
			}
		}
		other.close()
	}
	t.Logf("%d requests, the same answers from florin and %d forms of legacy", len(requests), len(legacies))
}

// requestsFor asks everything about every user, and about some that nobody knows.
func requestsFor(userIDs []uint64) []string {
	windows := []string{"24h", "7d", "30d", "lifetime"}
	unknown := []uint64{0, 1<<63 - 1, slices.Max(userIDs) + 1}
	var requests, batch []string
	for index, userID := range append(unknown, userIDs...) {
		requests = append(requests, get("/v1/users/%d/balance", userID), get("/v1/users/%d/statistics", userID))
		var asked []string
		for window, name := range windows {
			if (index%15+1)>>window&1 == 1 {
				asked = append(asked, name)
			}
		}
		requests = append(requests, get("/v1/users/%d/statistics?window=%s", userID, strings.Join(asked, ",")))
		if batch = append(batch, fmt.Sprintf(`"%d"`, userID)); len(batch) == 1024 {
			requests = append(requests, post(`{"user_ids":[`+strings.Join(batch, ",")+"]}"))
			batch = nil
		}
	}
	return append(requests, post(`{"user_ids":[`+strings.Join(batch, ",")+"]}"))
}

func usersOf(t *testing.T, ledger string) []uint64 {
	t.Helper()
	db, err := sql.Open("sqlite", ledger)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.Query("SELECT DISTINCT user_id FROM transactions ORDER BY user_id")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var userIDs []uint64
	for rows.Next() {
		var userID uint64
		if err := rows.Scan(&userID); err != nil {
			t.Fatal(err)
		}
		userIDs = append(userIDs, userID)
	}
	if err := rows.Err(); err != nil || len(userIDs) == 0 {
		t.Fatalf("%d users, %v", len(userIDs), err)
	}
	return userIDs
}

func florinRun(t *testing.T, arguments ...string) {
	t.Helper()
	if output, err := exec.Command(florinBinary(t), arguments...).CombinedOutput(); err != nil {
		t.Fatalf("florin %v: %v\n%s", arguments, err, output)
	}
}

func TestBodiesAreFlorinsToTheByteForEveryAccountOfAPlatform(t *testing.T) {
	path := filepath.Join(t.TempDir(), "platform.db")
	ledger := "sqlite:" + path
	const now = "2026-11-20T10:30:00Z"
	florinRun(t, "generate", "--ledger", ledger, "--users", "1500", "--transactions", "60000", "--seed", "7", "--until", now)
	florin, legacies := servers(t, ledger, now)
	compare(t, florin, legacies, requestsFor(usersOf(t, path)))
	compare(t, florin, legacies, mistakes)
	writeAndCompare(t, florin, legacies)
}

// The same rows in a file and in a PostgreSQL: whoever answers from either, and whichever of them is written to, the bodies
// are the same.
func TestBodiesAreTheSameFromAFileAndFromAPostgres(t *testing.T) {
	path := filepath.Join(t.TempDir(), "platform.db")
	const now = "2026-11-20T10:30:00Z"
	ledgers := []string{"sqlite:" + path, pgtest.Start(t)}
	var florins, legacies []*process
	for _, ledger := range ledgers {
		florinRun(t, "generate", "--ledger", ledger, "--users", "300", "--transactions", "10000", "--seed", "7", "--until", now)
		florin, others := servers(t, ledger, now)
		florins, legacies = append(florins, florin), append(legacies, others...)
	}
	others := append(legacies, florins[1])
	compare(t, florins[0], others, requestsFor(usersOf(t, path)))
	compare(t, florins[0], others, mistakes)
	forms := len(legacies) / 2
	writeAndCompare(t, florins[0], legacies[:forms])
	writeAndCompare(t, florins[1], legacies[forms:])
}

func TestBodiesAreFlorinsToTheByteForEveryAccountOfABank(t *testing.T) {
	if _, err := os.Stat(bank); err != nil {
		t.Skipf("%s is not here", bank)
	}
	path := filepath.Join(t.TempDir(), "bank.db")
	florinRun(t, "import", bank, "--ledger", "sqlite:"+path)
	florin, legacies := servers(t, "sqlite:"+path, "1994-03-31T23:59:59Z")
	compare(t, florin, legacies, requestsFor(usersOf(t, path)))
}

// mistakes are requests whose refusals must be the same. What net/http refuses before any service sees it (a path that is
// not percent-encoded, a request without Host) is not among them.
var mistakes = []string{
	get("/"), get("/v1"), get("/v1/users"), get("/v1/users//balance"), get("/v1/users/1/balance/"), get("/v2/users/1/balance"),
	get("/v1/users/1/balances"), get("//v1/users/1/balance"), get("/v1/users/%%2f/balance"), get("/v1/users/%%22%%0a%%00%%7f%%c3%%a9%%cc%%81/balance"),
	get("/v1/users/x/balance"), get("/v1/users/-1/balance"), get("/v1/users/+1/balance"), get("/v1/users/1.0/balance"),
	get("/v1/users/9223372036854775808/balance"), get("/v1/users/18446744073709551616/statistics"), get("/v1/users/0001/balance"),
	get("/v1/users/1/balance?"), get("/v1/users/1/balance?&"), get("/v1/users/1/balance?window=24h"), get("/v1/users/1/balance?a=%%zz"),
	get("/v1/users/1/balance?a=%%ff"), get("/v1/users/1/balance?a=%%f"), get("/v1/users/1/balance?min_version"), get("/v1/users/1/balance?min_version=+1"),
	get("/v1/users/1/balance?min_version=1&min_version=1"), get("/v1/users/1/balance?min_version=18446744073709551616"),
	get("/v1/users/1/balance?min_version=18446744073709551615"), get("/v1/users/1/balance?min_version=999999&wait_ms=1"),
	get("/v1/users/999999/balance?min_version=1"), get("/v1/users/1/statistics?min_version=999999"),
	get("/v1/users/1/balance?max_age_ms=-1"), get("/v1/users/1/balance?max_age_ms=4294967296"), get("/v1/users/1/balance?wait_ms=1e3"),
	get("/v1/users/1/balance?wait_ms=4294967295"), get("/v1/users/1/balance?%%77ait_ms=0&min_%%76ersion=1"),
	get("/v1/users/1/statistics?window="), get("/v1/users/1/statistics?window=24h,"), get("/v1/users/1/statistics?window=24H"),
	get("/v1/users/1/statistics?window=7d,24h,7d"), get("/v1/users/1/statistics?window=24h%%2c30d"), get("/v1/users/1/statistics?window=24h&window=7d"),
	get("/v1/balances:batchGet"), get("/v1/balances%%3abatchGet"), get("/v1/users/1/balance#fragment"), get("http://host/v1/users/1/balance?x"),
	"HEAD /v1/users/1/balance HTTP/1.1\r\nHost: x\r\n\r\n", "HEAD /v1/users/x/balance HTTP/1.1\r\nHost: x\r\n\r\n",
	"PUT /v1/users/1/balance HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", "DELETE /v1/balances:batchGet HTTP/1.1\r\nHost: x\r\n\r\n",
	"POST /v1/users/1/balance HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}",
	"GET /v1/users/1/balance HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}",
	"POST /v1/balances:batchGet HTTP/1.1\r\nHost: x\r\n\r\n",
	"POST /v1/balances:batchGet HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain; a=\"b\"\r\nContent-Length: 2\r\n\r\n{}",
	"POST /v1/balances:batchGet HTTP/1.1\r\nHost: x\r\nContent-Type: APPLICATION/JSON ; charset=utf-8\r\nContent-Length: 18\r\n\r\n{\"user_ids\":[\"1\"]}",
	"POST /v1/balances:batchGet HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
	"POST /v1/balances:batchGet?window=7d HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}",
	"POST /v1/balances:batchGet?min_version=999999 HTTP/1.1\r\nHost: x\r\nContent-Length: 24\r\n\r\n{\"user_ids\":[1,2,99999]}",
	"POST /v1/balances:batchGet HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
	post(strings.Repeat(" ", 49153)), post(`{"user_ids":[` + strings.Repeat("1,", 1024) + `1]}`),
	post(``), post(` `), post("\n\n "), post(`{`), post(`[`), post(`{}`), post(`[]`), post(`7`), post(`-`), post(`-1`), post(`1.5`), post(`1e400`), post(`01`), post(`1.`),
	post(`"x"`), post(`"`), post(`"\`), post(`"\q"`), post(`"\ud800"`), post("\"a\nb\""), post(`null`), post(`nul`), post(`nulx`), post(`true`), post(`false`), post(`fals`), post(`x`), post(`}`),
	post(`{"user_ids"`), post(`{"user_ids"}`), post(`{"user_ids":`), post(`{"user_ids":}`), post(`{"user_ids":1}`), post(`{"user_ids":"1"}`), post(`{"user_ids":null}`), post(`{"user_ids":{}}`), post(`{"user_ids":true}`),
	post(`{"user_ids":[`), post(`{"user_ids":[}`), post(`{"user_ids":[]}`), post(`{"user_ids":[1`), post(`{"user_ids":[1,`), post(`{"user_ids":[1,]}`), post(`{"user_ids":[,]}`), post(`{"user_ids":[1 2]}`), post(`{"user_ids":[1}`),
	post(`{"user_ids":[1]`), post(`{"user_ids":[1],`), post(`{"user_ids":[1],}`), post(`{"user_ids":[1] "a"}`), post(`{"user_ids":[1]}x`), post(`{"user_ids":[1]} {}`), post("{\"user_ids\":[1]}\n"),
	post(`{"user_ids":[1],"user_ids":[2]}`), post(`{"user_ids":[1],"x":2}`), post(`{"x":1}`), post(`{ "x" :1}`), post(`{"x"}`), post(`{"x"`), post(`{1:2}`), post(`{"USER_IDS":[1]}`), post(`{"user\u005fids":["\u0031"]}`), post(`{"":1}`),
	post(`{"user_ids":["x"]}`), post(`{"user_ids":[""]}`), post(`{"user_ids":["-1"]}`), post(`{"user_ids":["1","9223372036854775808"]}`), post(`{"user_ids":["99999999999999999999"]}`), post(`{"user_ids":["a\"\\\u0000é"]}`),
	post(`{"user_ids":[-1]}`), post(`{"user_ids":[-0]}`), post(`{"user_ids":[1.0]}`), post(`{"user_ids":[1.5e3]}`), post(`{"user_ids":[1e2]}`), post(`{"user_ids":[9223372036854775808]}`), post(`{"user_ids":[18446744073709551616]}`), post(`{"user_ids":[-9223372036854775809]}`),
	post(`{"user_ids":[1e15]}`), post(`{"user_ids":[1e16]}`), post(`{"user_ids":[123456789012345678e3]}`), post(`{"user_ids":[0.0001]}`), post(`{"user_ids":[0.00001]}`), post(`{"user_ids":[0.000001]}`), post(`{"user_ids":[1.25e-7]}`), post(`{"user_ids":[1.5e300]}`), post(`{"user_ids":[0.0]}`),
	post(`{"user_ids":["\u0041ÿ"]}`), post("{\"\xff\":1}"), post(`{"user_ids":["\ud83d\ude00"]}`), post(`{"user_ids":["\ud83d"]}`), post(`{"user_ids":["\ud83dx"]}`), post(`{"user_ids":["\ud83d\n"]}`), post(`{"user_ids":["\ud83d\u0041"]}`), post(`{"user_ids":["\udc00"]}`),
	post(`{"user_ids":[01]}`), post(`{"user_ids":[-]}`), post(`{"user_ids":[1.]}`), post(`{"user_ids":[1e]}`), post(`{"user_ids":[1e999]}`), post(`{"user_ids":[null]}`), post(`{"user_ids":[nul]}`), post(`{"user_ids":[true,1]}`), post(`{"user_ids":[false]}`),
	post(`{"user_ids":[[]]}`), post(`{"user_ids":[[1]]}`), post(`{"user_ids":[[,]]}`), post(`{"user_ids":[{}]}`), post(`{"user_ids":[{"a":1}]}`), post(`{"user_ids":[ [ ] ]}`), post(`{"user_ids":["1]}`), post(`{"user_ids":["\x"]}`), post(`{"user_ids":["\u12"]}`), post(`{"user_ids":["\u12g4"]}`),
	post("{\n  \"user_ids\": [\n    \"1\",\n    x\n  ]\n}"), post("{\"user_ids\":[\"\xff\"]}"), post("{\"user_ids\":[\"\t\"]}"), post("\x00"), post("{\"user_ids\":[1]}\x00"),
	post(`[["1"]]`), post(`[["1"],2]`), post(`[["1"],]`), post(`[["1"]`), post(`[1]`), post(`[["x"]]`),
}

// writeAndCompare writes through the service, and reads its own write from all.
func writeAndCompare(t *testing.T, florin *process, legacies []*process) {
	t.Helper()
	const body = `[{"transaction_id":"99001032-b24c-5525-b910-74da77541092","user_id":"777777","asset":"COIN","kind":"recharge","amount":"500","occurred_at":"2026-11-20T04:05:06Z"},` +
		`{"transaction_id":"99001032-b24c-5525-b910-74da77541093","user_id":777777,"asset":"USD","kind":1,"amount":7,"occurred_at":"2026-11-20T04:05:07.5+01:00"}]`
	const receipt = `{"transactions":[{"transaction_id":"99001032-b24c-5525-b910-74da77541092","user_id":"777777","version":"1","duplicate":%[1]v},` +
		`{"transaction_id":"99001032-b24c-5525-b910-74da77541093","user_id":"777777","version":"2","duplicate":%[1]v}]}`
	for index, legacy := range legacies {
		response, err := http.Post("http://"+legacy.address+"/v1/transactions", "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		var got bytes.Buffer
		if _, err := got.ReadFrom(response.Body); err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if want := fmt.Sprintf(receipt, index > 0); response.StatusCode != 200 || got.String() != want {
			t.Errorf("%s: %d\ngot  %s\nwant %s", legacy.name, response.StatusCode, &got, want)
		}
	}
	compare(t, florin, legacies, []string{
		get("/v1/users/777777/balance?min_version=2&wait_ms=1000"),
		get("/v1/users/777777/statistics?min_version=2&wait_ms=1000&max_age_ms=30000"),
	})
}
