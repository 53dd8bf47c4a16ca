package main

import (
	"database/sql"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/florin-db/florin/bench/legacy/internal/backend"
)

func emptyLedger(t *testing.T) string {
	t.Helper()
	schema, err := os.ReadFile("../../schemas/ledger.sql")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "ledger.db")
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec("PRAGMA journal_mode = wal; " + string(schema)); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestOperatorsSeeTheService(t *testing.T) {
	binary, err := legacyBinary()
	if err != nil {
		t.Fatal(err)
	}
	for _, library := range []string{"std", "fasthttp"} {
		p := start(t, library, legacyAddress, binary, "--ledger", "sqlite:"+emptyLedger(t), "--listen", "127.0.0.1:0", "--http", library)
		awaitOK(t, p, "/readyz", 0)
		awaitOK(t, p, "/healthz", 0)
		awaitOK(t, p, "/v1/users/1/balance", 404)
		for target, want := range map[string]string{
			"/metrics":              `legacy_requests_total{code="404",route="balance"} 1`,
			"/debug/pprof/cmdline":  "--ledger",
			"/debug/pprof/":         "goroutine",
			"/debug/pprof/symbol?x": "num_symbols",
		} {
			response, err := http.Get("http://" + p.address + target)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(response.Body)
			response.Body.Close()
			if err != nil || response.StatusCode != 200 || !strings.Contains(string(body), want) {
				t.Errorf("%s%s: %d, %v: %.2000s", library, target, response.StatusCode, err, body)
			}
		}
	}
}

func TestWrongFlagsAreNamed(t *testing.T) {
	for want, arguments := range map[string][]string{
		"give --ledger": {}, "--ledger: expected sqlite:PATH or postgres://": {"--ledger", "x.db"}, "--http: ": {"--ledger", "sqlite:x", "--http", "gin"},
		"--json: ": {"--ledger", "sqlite:x", "--json", "jsoniter"}, "expected flags alone": {"--ledger", "sqlite:x", "y"},
		"--poll: ": {"--ledger", "sqlite:x", "--poll", "0s"},
	} {
		if _, err := parse(arguments); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v", arguments, err)
		}
	}
	for _, s := range []settings{
		{ledger: "sqlite:/nowhere/at/all.db"}, {ledger: "postgres://x@127.0.0.1:1/x"}, {ledger: "postgres://x@[::1/x"},
		{backend: backend.Target{Address: "http://x"}}, {backend: backend.Target{Address: "florin://x:1", TokenFile: "/nowhere"}},
		{backend: backend.Target{Address: "florins://x:1", Authorities: "main.go"}},
		{backend: backend.Target{Address: "florins://x:1", Certificate: "main.go"}}, {ledger: "sqlite:" + emptyLedger(t), now: "yesterday"},
	} {
		if err := run(s); err == nil {
			t.Errorf("%+v was served", s)
		}
	}
}
