package api

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/florin-db/florin/bench/legacy/internal/domain"
	"github.com/florin-db/florin/bench/legacy/internal/reads"
)

// example answers what the contract's examples show, for user 42, and knows nobody else.
type example struct{}

const asOf = "2026-11-22T04:05:06.000007Z"

var origin = reads.Origin{AsOf: asOf, Shard: 3}

func known(userID uint64) error {
	if userID != 42 {
		return &reads.Refusal{Origin: origin, Status: reads.NotFound, Message: "the ledger has never named this user"}
	}
	return nil
}

func (example) Balance(_ context.Context, userID uint64, _ reads.Freshness) (*reads.Balance, reads.Origin, error) {
	return &reads.Balance{UserID: 42, Version: 7, UpdatedAt: asOf, Balances: []reads.AssetBalance{{Asset: "COIN", Available: 1200}}}, origin, known(userID)
}

func (example) Statistics(_ context.Context, userID uint64, windows domain.Windows, _ reads.Freshness, into *reads.Statistics) (reads.Origin, error) {
	into.UserID, into.Version = 42, 7
	for index := range into.Reset(1, windows) {
		into.Reset(1, windows)[index] = reads.Sums{}
	}
	into.Statistics[0].Asset, into.Statistics[0].FirstTransactionAt, into.Statistics[0].LastTransactionAt = "COIN", asOf, asOf
	if day := into.Statistics[0].Windows.Hours24; day != nil {
		*day = reads.Sums{CreditCount: 1, CreditSum: 500, DebitCount: 2, DebitSum: 300, LargestDebit: 200}
	}
	return origin, known(userID)
}

func (e example) Balances(ctx context.Context, userIDs []uint64, freshness reads.Freshness, into *reads.Batch) (reads.Origin, error) {
	for _, userID := range userIDs {
		entry := reads.Entry{UserID: userID, Status: reads.NotFound}
		if balance, _, err := e.Balance(ctx, userID, freshness); err == nil {
			entry.Status, entry.Balance = reads.OK, balance
		}
		into.Balances = append(into.Balances, entry)
	}
	return origin, nil
}

func (example) Origin() reads.Origin        { return origin }
func (example) Ready(context.Context) error { return nil }

type nobody struct{}

func (nobody) Now() int64                 { return 0 }
func (nobody) Observe(string, int, int64) {}

const (
	balanceJSON    = `{"user_id":"42","version":"7","updated_at":"2026-11-22T04:05:06.000007Z","balances":[{"asset":"COIN","available":"1200","held":"0"}]}`
	statisticsJSON = `{"user_id":"42","version":"7","statistics":[{"asset":"COIN","windows":{"24h":{"credit_count":"1","credit_sum":"500","debit_count":"2","debit_sum":"300","largest_debit":"200"}},"first_transaction_at":"2026-11-22T04:05:06.000007Z","last_transaction_at":"2026-11-22T04:05:06.000007Z"}]}`
)

func problemJSON(code int, detail string) string {
	return fmt.Sprintf(`{"type":"about:blank","title":"%s","status":%d,"detail":"%s"}`, reasons[code], code, detail)
}

type exchange struct {
	request string
	code    int
	body    string
}

func post(body string) string {
	return fmt.Sprintf("POST /v1/balances:batchGet HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

func get(target string) string { return "GET " + target + " HTTP/1.1\r\nHost: x\r\n\r\n" }

var exchanges = []exchange{
	{get("/v1/users/42/balance"), 200, balanceJSON},
	{get("/v1/users/42/statistics?window=24h"), 200, statisticsJSON},
	{"HEAD /v1/users/42/balance HTTP/1.1\r\nHost: x\r\n\r\n", 200, ""},
	{get("/v1/users/42/balance?min_version=0&wait_ms=99999"), 200, balanceJSON},
	{get("/v1/%75sers/%342/balance"), 200, balanceJSON},
	{post(`{"user_ids":["42",9]}`), 200, `{"balances":[{"user_id":"42","status":"OK","balance":` + balanceJSON + `},{"user_id":"9","status":"NOT_FOUND"}]}`},
	{get("/v1/users/9/balance"), 404, problemJSON(404, "the ledger has never named this user")},
	{get("/v1/users/-1/balance"), 400, problemJSON(400, `user_id: expected 0 to 9223372036854775807, got \"-1\"`)},
	{get("/v1/users/9223372036854775808/statistics"), 400, problemJSON(400, `user_id: expected 0 to 9223372036854775807, got \"9223372036854775808\"`)},
	{get("/v1/users/42/statistics?window=24h,1y"), 400, problemJSON(400, `window: expected 24h, 7d, 30d and lifetime, separated by commas, got \"24h,1y\"`)},
	{get("/v1/users/42/balance?wait_ms=1&wait_ms=2"), 400, problemJSON(400, "wait_ms: expected once")},
	{get("/v1/users/42/balance?max_age_ms=4294967296"), 400, problemJSON(400, `max_age_ms: expected 0 to 4294967295, got \"4294967296\"`)},
	{"DELETE /v1/users/42/balance HTTP/1.1\r\nHost: x\r\n\r\n", 405, problemJSON(405, `method: expected GET, HEAD, got \"DELETE\"`)},
	{post(`{"user_ids":[]}`), 400, problemJSON(400, "user_ids: expected 1 to 1024 ids, got 0")},
	{post(`{"USER_IDS":[1]}`), 400, problemJSON(400, `body: expected {\"user_ids\":[\"1\",\"2\"]}: unknown field `+"`USER_IDS`, expected `user_ids`"+` at line 1 column 11`)},
	{post(`{"user_ids":["a"]}`), 400, problemJSON(400, `body: expected {\"user_ids\":[\"1\",\"2\"]}: invalid value: string \"a\", expected each of user_ids to be 0 to 9223372036854775807, as a string or a number at line 1 column 16`)},
	{"POST /v1/balances:batchGet HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: 0\r\n\r\n", 415, problemJSON(415, `content-type: expected application/json, got \"text/plain\"`)},
	// Those that close the connection.
	{"POST /v1/balances:batchGet HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n", 413, problemJSON(413, "body: expected at most 49152 bytes, got 60000")},
	{"POST /v1/balances:batchGet HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411, problemJSON(411, "content-length: expected one in place of Transfer-Encoding: chunked")},
}

func TestTheContractIsKeptByEveryPairOfLibraries(t *testing.T) {
	for http := range Servers {
		for json := range Codecs {
			t.Run(http+"-"+json, func(t *testing.T) {
				address := serve(t, http, json)
				for _, exchange := range exchanges {
					exchange.run(t, address)
				}
			})
		}
	}
}

func serve(t *testing.T, http, json string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := Servers[http](&API{Source: example{}, Codec: Codecs[json], Observer: nobody{}, Appended: func() {}}, nil, nil)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	t.Cleanup(func() {
		if err := server.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return listener.Addr().String()
}

func (e exchange) run(t *testing.T, address string) {
	t.Helper()
	socket, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	if _, err := io.WriteString(socket, e.request); err != nil {
		t.Fatal(err)
	}
	method, _, _ := strings.Cut(e.request, " ")
	response, err := http.ReadResponse(bufio.NewReader(socket), &http.Request{Method: method})
	if err != nil {
		t.Fatalf("%q: %v", e.request, err)
	}
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != e.code || string(body) != e.body {
		t.Errorf("%q: %v\ngot  %d %s\nwant %d %s", e.request, err, response.StatusCode, body, e.code, e.body)
	}
	header := response.Header
	if header.Get("Florin-As-Of") != asOf || header.Get("Florin-Shard") != "3" {
		t.Errorf("%q: headers %v", e.request, header)
	}
	isSingle := e.code == 200 && method != "POST"
	if (header.Get("Florin-Version") == "7") != isSingle {
		t.Errorf("%q: Florin-Version %q", e.request, header.Get("Florin-Version"))
	}
	if want := map[bool]string{true: jsonType, false: problemType}[e.code == 200]; header.Get("Content-Type") != want {
		t.Errorf("%q: Content-Type %q", e.request, header.Get("Content-Type"))
	}
}

const goodTransaction = `{"transaction_id":"99001032-B24C-5525-b910-74da77541092","user_id":42,"asset":"COIN","kind":"recharge","amount":"500","occurred_at":"2026-11-22T04:05:06Z"}`

func TestTransactionsAreReadAlikeInEachForm(t *testing.T) {
	for _, body := range []string{goodTransaction, "[" + goodTransaction + "]", `{"transactions":[` + goodTransaction + "]}"} {
		read, problem := readTransactions([]byte(body))
		if problem != nil || len(read) != 1 || read[0].ID != "99001032-b24c-5525-b910-74da77541092" ||
			read[0].UserID != 42 || read[0].Amount != 500 || read[0].Kind != domain.Recharge {
			t.Errorf("%s: %+v, %v", body, read, problem)
		}
	}
}

func TestAWrongTransactionIsNamed(t *testing.T) {
	for _, c := range []struct{ from, to, field string }{
		{`"500"`, "1.5", "amount"}, {`"500"`, "-1", "amount"}, {`"500"`, "9223372036854775808", "amount"}, {`"500"`, "0", "amount"},
		{"42", "[42]", "user_id"}, {`"recharge"`, `"gift"`, "kind"}, {`"COIN"`, "7", "asset"},
		{`"2026-11-22T04:05:06Z"`, "1763784306", "occurred_at"}, {`"user_id":42,`, "", "user_id"}, {"99001032", "9900103", "transaction_id"},
	} {
		body := "[" + goodTransaction + "," + strings.Replace(goodTransaction, c.from, c.to, 1) + "]"
		_, problem := readTransactions([]byte(body))
		if problem == nil || problem.code != 400 || problem.members != members(1, c.field) {
			t.Errorf("%s: %+v", body, problem)
		}
	}
	for body, code := range map[string]int{"": 400, "{": 400, "7": 400, "[]": 400, `{"transactions":[]}`: 400, "{}": 400, "[7]": 400, `{"ammount":1}`: 400} {
		if _, problem := readTransactions([]byte(body)); problem == nil || problem.code != code {
			t.Errorf("%s: %+v", body, problem)
		}
	}
}

func FuzzBatch(f *testing.F) {
	for _, body := range []string{`{"user_ids":["1",2]}`, `[["1"]]`, `{"user_ids":[1e5,-0,"\u0031"]}`, "{\n\"user_ids\" : [ null ] }", ``, `{"user_ids":[1],`} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var answers []string
		for _, name := range []string{"std", "sonic"} {
			var request batchRequest
			if problem := readBatch(Codecs[name], body, &request); problem != nil {
				answers = append(answers, problem.detail)
			} else {
				answers = append(answers, fmt.Sprint(request.UserIDs.list))
			}
		}
		if answers[0] != answers[1] {
			t.Errorf("std:   %s\nsonic: %s", answers[0], answers[1])
		}
	})
}
