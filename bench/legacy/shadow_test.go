package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/florin-db/florin/bench/legacy/internal/pgtest"
)

var (
	shadowAddress = regexp.MustCompile(`listen +http://(\S+)`)
	adminAddress  = regexp.MustCompile(`admin +http://(\S+)`)
)

// shadowState is what of the shadow's state is looked at.
type shadowState struct {
	Consistent, Complete bool
	Verdict              string
	Requests             int
	Queue                struct{ Open int }
	Verdicts             map[string]int
	Reasons              map[string]map[string]int
}

// Nine users are few, and what is said of accounts that move all the time is often of a version that nobody else has shown; that the two
// answer the same is what counts here. So fewer answers than usual are compared, and on a busy machine either may lag for long.
const shadowConfig = `
unproven-max = 1.0
[mirror]
timeout-ms = 20000
[catch-up]
budget-ms = 20000
asks = 1000
# A PostgreSQL hands a commit to whoever reads its log before its queries see it: by 0.75 s where six programs wanted two CPUs.
clock-skew-ms = 2000
[enough]
answers = 100
users = 5
`

// This service as primary and florin as candidate, on one ledger that is written to all the time, through the shadow:
// every answer is compared, and no two differ.
func TestTheShadowFindsFlorinTheSame(t *testing.T) {
	binary, err := legacyBinary()
	if err != nil {
		t.Fatal(err)
	}
	postgres := pgtest.Start(t)
	florinRun(t, "ledger", "init", postgres)
	for _, on := range [][2]string{
		{"http", "sqlite:" + emptyLedger(t)}, {"florin", "sqlite:" + emptyLedger(t)}, {"http", postgres},
	} {
		scheme, ledger := on[0], on[1]
		florin := start(t, "florin", florinAddress, florinBinary(t), "serve", "--ledger", ledger,
			"--listen", "127.0.0.1:0", "--shard-listen", "127.0.0.1:0", "--admin", "off", "--shards", "1")
		legacy := start(t, "legacy", legacyAddress, binary, "--ledger", ledger, "--listen", "127.0.0.1:0")
		awaitOK(t, florin, "/v1/users/1/balance", 404)
		awaitOK(t, legacy, "/readyz", 0)
		// It ends well, or its start's clean-up says so: only a run that is consistent and complete does.
		config := filepath.Join(t.TempDir(), "shadow.toml")
		if err := os.WriteFile(config, []byte(shadowConfig), 0o600); err != nil {
			t.Fatal(err)
		}
		shadow := start(t, "shadow", adminAddress, florinBinary(t), "shadow", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0",
			"--primary", "http://"+legacy.address, "--candidate", scheme+"://"+florin.address, "--report", t.TempDir(), "--config", config)
		listen := shadowAddress.FindStringSubmatch(shadow.said())[1]

		// Four rounds of reads for each of writes: on a slow disk all reads were over before most users had any row.
		const writes, rounds = 100, 400
		turns := make(chan int, rounds)
		var callers sync.WaitGroup
		callers.Go(func() {
			defer close(turns)
			for round := range writes {
				row := func(at, user int) string {
					return fmt.Sprintf(`{"transaction_id":"00000000-0000-4000-8000-%012d","user_id":"%d","asset":"COIN",`+
						`"kind":"recharge","amount":"%d","occurred_at":"2026-11-22T04:05:06Z"}`, 10*round+at, user, at+1)
				}
				rows := []string{row(0, 1), row(1, round%7), row(2, 3)}
				submit(t, listen, "/v1/transactions", "["+strings.Join(rows, ",")+"]")
				for turn := range rounds / writes {
					turns <- rounds/writes*round + turn
				}
			}
		})
		callers.Go(func() {
			for turn := range turns {
				fetch(t, listen, fmt.Sprintf("/v1/users/%d/balance", turn%9))
				fetch(t, listen, fmt.Sprintf("/v1/users/%d/statistics?window=24h,lifetime", turn%9))
				submit(t, listen, "/v1/balances:batchGet", `{"user_ids":["1","2","3","99"]}`)
			}
		})
		callers.Wait()

		state := settled(t, shadow, 3*rounds)
		if !state.Consistent || !state.Complete || state.Requests != 3*rounds {
			t.Errorf("%v: %+v", on, state)
		}
	}
}

func fetch(t *testing.T, address, target string) {
	response, err := http.Get("http://" + address + target)
	readOut(t, target, response, err)
}

func submit(t *testing.T, address, target, body string) {
	response, err := http.Post("http://"+address+target, "application/json", strings.NewReader(body))
	readOut(t, target, response, err)
}

// readOut reads an answer to its end, so that the connection is used again.
func readOut(t *testing.T, target string, response *http.Response, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
		return
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil || (response.StatusCode != 200 && response.StatusCode != 404) {
		t.Errorf("%s: %d, %v: %s", target, response.StatusCode, err, text)
	}
}

// settled waits until so many requests have their verdict.
func settled(t *testing.T, shadow *process, requests int) shadowState {
	t.Helper()
	for deadline := time.Now().Add(patience); ; {
		var state shadowState
		response, err := http.Get("http://" + shadow.address + "/v1/shadow")
		if err == nil {
			err = json.NewDecoder(response.Body).Decode(&state)
			response.Body.Close()
		}
		if err == nil && state.Requests >= requests && state.Queue.Open == 0 {
			return state
		}
		if time.Now().After(deadline) {
			t.Fatalf("the shadow has no verdict: %v: %+v", err, state)
		}
		time.Sleep(5 * time.Millisecond)
	}
}
