package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/florin-db/florin/clients/go"
)

// newAsker makes the asker that the target calls for, and waits until it is connected.
func newAsker(s settings) (asker, error) {
	switch {
	case strings.HasPrefix(s.target, "http://"):
		// A connection for each goroutine is kept: what a service under load is told to do first.
		transport := &http.Transport{
			MaxIdleConns: s.goroutines, MaxIdleConnsPerHost: s.goroutines, DisableCompression: true,
		}
		return &httpAsker{base: s.target, kind: s.kind, client: http.Client{Transport: transport}}, nil
	case s.kind.name == "write":
		return nil, fmt.Errorf("--target: expected http://HOST:PORT to write to, got %q", s.target)
	}
	client, err := florin.New(s.target, florin.Options{})
	if err != nil {
		return nil, fmt.Errorf("--target: expected http://HOST:PORT or florin://HOST:PORT, got %q", s.target)
	}
	ctx, cancel := context.WithTimeout(context.Background(), answerTimeout)
	defer cancel()
	if err := client.Ready(ctx); err != nil {
		return nil, err
	}
	return &florinAsker{kind: s.kind, client: client}, nil
}

// balance and statistics are what a caller reads of the answers.
type balance struct {
	UserID   uint64 `json:"user_id,string"`
	Version  uint64 `json:"version,string"`
	Balances []struct {
		Asset     string `json:"asset"`
		Available int64  `json:"available,string"`
		Held      int64  `json:"held,string"`
	} `json:"balances"`
}

type statistics struct {
	UserID     uint64 `json:"user_id,string"`
	Version    uint64 `json:"version,string"`
	Statistics []struct {
		Asset   string `json:"asset"`
		Windows map[string]struct {
			CreditCount  uint64 `json:"credit_count,string"`
			CreditSum    int64  `json:"credit_sum,string"`
			DebitCount   uint64 `json:"debit_count,string"`
			DebitSum     int64  `json:"debit_sum,string"`
			LargestDebit int64  `json:"largest_debit,string"`
		} `json:"windows"`
	} `json:"statistics"`
}

type balances struct {
	Balances []struct {
		UserID  uint64  `json:"user_id,string"`
		Status  string  `json:"status"`
		Balance balance `json:"balance"`
	} `json:"balances"`
}

type receipt struct {
	Transactions []struct {
		UserID  uint64 `json:"user_id,string"`
		Version uint64 `json:"version,string"`
	} `json:"transactions"`
}

// httpAsker asks with net/http and encoding/json.
type httpAsker struct {
	base   string
	kind   kind
	client http.Client
}

var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

func (a *httpAsker) Close() { a.client.CloseIdleConnections() }

func (a *httpAsker) Ask(ctx context.Context, users []uint64) error {
	user := users[0]
	switch path := a.base + "/v1/users/" + strconv.FormatUint(user, 10); a.kind.name {
	case "balance":
		var found balance
		if err := a.do(ctx, "GET", path+"/balance", nil, &found); err != nil {
			return err
		}
		return check(user, found.UserID, found.Version, len(found.Balances))
	case "statistics":
		var found statistics
		if err := a.do(ctx, "GET", path+"/statistics", nil, &found); err != nil {
			return err
		}
		return check(user, found.UserID, found.Version, len(found.Statistics))
	case "write":
		var found receipt
		if err := a.do(ctx, "POST", a.base+"/v1/transactions", transaction(user), &found); err != nil {
			return err
		}
		if len(found.Transactions) != 1 {
			return fmt.Errorf("%w: %d receipts", errWrong, len(found.Transactions))
		}
		return check(user, found.Transactions[0].UserID, found.Transactions[0].Version, 1)
	}
	var found balances
	if err := a.do(ctx, "POST", a.base+"/v1/balances:batchGet", idList(users), &found); err != nil {
		return err
	}
	if len(found.Balances) != len(users) {
		return fmt.Errorf("%w: %d entries", errWrong, len(found.Balances))
	}
	for index, entry := range found.Balances {
		if err := check(users[index], entry.Balance.UserID, entry.Balance.Version, len(entry.Balance.Balances)); err != nil {
			return err
		}
	}
	return nil
}

// do sends one request and decodes its answer.
func (a *httpAsker) do(ctx context.Context, method, url string, body []byte, into any) error {
	request, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("%w: %w", errWrong, err)
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := a.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	buffer := buffers.Get().(*bytes.Buffer)
	defer buffers.Put(buffer)
	buffer.Reset()
	if _, err := buffer.ReadFrom(response.Body); err != nil {
		return err
	}
	switch {
	case response.StatusCode == http.StatusTooManyRequests || response.StatusCode >= 500:
		return fmt.Errorf("status %s", response.Status)
	case response.StatusCode != http.StatusOK:
		return fmt.Errorf("%w: status %s: %.200s", errWrong, response.Status, buffer.Bytes())
	}
	if err := json.Unmarshal(buffer.Bytes(), into); err != nil {
		return fmt.Errorf("%w: %w: %.200s", errWrong, err, buffer.Bytes())
	}
	return nil
}

func idList(users []uint64) []byte {
	list := []byte(`{"user_ids":[`)
	for index, user := range users {
		if index > 0 {
			list = append(list, ',')
		}
		list = append(strconv.AppendUint(append(list, '"'), user, 10), '"')
	}
	return append(list, ']', '}')
}

func transaction(user uint64) []byte {
	a, b := rand.Uint64(), rand.Uint64()
	return fmt.Appendf(nil, `{"transaction_id":"%08x-%04x-4%03x-a%03x-%012x","user_id":"%d","asset":"COIN","kind":"recharge",`+
		`"amount":"1","occurred_at":%q}`, uint32(a>>32), uint16(a>>16), a&0xFFF, b>>52, b&0xFFFFFFFFFFFF, user,
		time.Now().UTC().Format("2006-01-02T15:04:05.000000Z"))
}

// florinAsker asks with florin's client.
type florinAsker struct {
	kind   kind
	client *florin.Client
}

func (a *florinAsker) Close() { _ = a.client.Close() }

func (a *florinAsker) Ask(ctx context.Context, users []uint64) error {
	switch user := users[0]; a.kind.name {
	case "balance":
		found, err := a.client.GetBalance(ctx, user)
		if err != nil {
			return judged(err)
		}
		return check(user, found.UserID, found.Version, len(found.Assets))
	case "statistics":
		found, err := a.client.GetStatistics(ctx, user, florin.AllWindows)
		if err != nil {
			return judged(err)
		}
		return check(user, found.UserID, found.Version, len(found.Assets))
	}
	found, err := a.client.GetBalances(ctx, users)
	if err != nil {
		return judged(err)
	}
	for index, entry := range found.Entries {
		if entry.Balance == nil {
			return fmt.Errorf("%w: entry %d is %v", errWrong, index, entry.Status)
		}
		if err := check(users[index], entry.Balance.UserID, entry.Balance.Version, len(entry.Balance.Assets)); err != nil {
			return err
		}
	}
	return nil
}

// judged says whether the client's error is a wrong answer; the others are answers that are missing.
func judged(err error) error {
	if errors.Is(err, florin.ErrNotFound) || errors.Is(err, florin.ErrProtocol) || errors.Is(err, florin.ErrInvalidRequest) {
		return fmt.Errorf("%w: %w", errWrong, err)
	}
	return err
}

// check tells an answer about the user who was asked about from any other.
func check(asked, answered, version uint64, rows int) error {
	if asked != answered || version == 0 || rows == 0 {
		return fmt.Errorf("%w: asked about user %d, got user %d at version %d with %d rows", errWrong, asked, answered, version, rows)
	}
	return nil
}
