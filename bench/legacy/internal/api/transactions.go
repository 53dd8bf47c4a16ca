package api

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/florin-db/florin/bench/legacy/internal/domain"
	"github.com/florin-db/florin/bench/legacy/internal/ledger"
)

// transactionsMax is how many transactions one request may carry: the ledger takes no other writer meanwhile.
const transactionsMax = 10_000

// receipt is what the ledger made of a request, in the request's order.
type receipt struct {
	Transactions []receiptEntry `json:"transactions"`
}

type receiptEntry struct {
	TransactionID string `json:"transaction_id"`
	UserID        uint64 `json:"user_id,string"`
	Version       uint64 `json:"version,string"`
	Duplicate     bool   `json:"duplicate"`
}

// transactionFields are a transaction's keys, as they came.
type transactionFields struct {
	TransactionID json.RawMessage `json:"transaction_id"`
	UserID        json.RawMessage `json:"user_id"`
	Asset         json.RawMessage `json:"asset"`
	Kind          json.RawMessage `json:"kind"`
	Amount        json.RawMessage `json:"amount"`
	OccurredAt    json.RawMessage `json:"occurred_at"`
}

// What a legal value of each field looks like.
const (
	expectedTransactionID = "a UUID like 99001032-b24c-5525-b910-74da77541092"
	expectedUser          = "a whole number from 0 to 9223372036854775807"
	expectedAsset         = "1 to 8 characters of A-Z, 0-9 and _, like COIN"
	expectedKind          = "recharge, gift_received, refund, adjustment_credit, gift_sent, withdrawal, adjustment_debit, hold, " +
		"release, capture, or its number from 1 to 10, without leading zeros"
	expectedAmount     = "a whole number of minor units from 1 to 9223372036854775807"
	expectedOccurredAt = "a time like 1994-03-31T23:59:59.000001Z (RFC 3339 with Z or an offset, years 0001 to 9999, no " +
		"finer than µs)"
)

// write appends one transaction, an array of them, or {"transactions":[…]} to the ledger: all of them, or none.
func (a *API) write(ctx context.Context, head Head, body []byte, reply *Reply) error {
	if head.Method() != "POST" {
		problem := bad(405, "method: expected POST, got %s", quote(head.Method()))
		problem.allow = "POST"
		return problem
	}
	if problem := checkHeaders(head); problem != nil {
		return problem
	}
	if a.Ledger == nil {
		return bad(501, "this service was started without a ledger to write to: give it --ledger")
	}
	transactions, problem := readTransactions(body)
	if problem != nil {
		return problem
	}
	appended, err := a.Ledger.Append(ctx, transactions)
	if err != nil {
		return rejection(err)
	}
	a.Appended()
	answer := receipt{Transactions: make([]receiptEntry, len(appended))}
	for index, one := range appended {
		answer.Transactions[index] = receiptEntry{
			TransactionID: transactions[index].ID,
			UserID:        transactions[index].UserID,
			Version:       one.Version,
			Duplicate:     one.Duplicate,
		}
	}
	reply.Origin = a.Source.Origin()
	reply.Code, reply.Type = 200, jsonType
	reply.Body, err = a.Codec.Append(reply.Body[:0], &answer)
	return err
}

func rejection(err error) error {
	var rejected *ledger.Rejection
	if !errors.As(err, &rejected) {
		return err
	}
	problem := bad(400, "transaction %d: %s", rejected.Index, rejected.Message)
	problem.members = members(rejected.Index, rejected.Field)
	if rejected.ConflictVersion != 0 {
		problem.code = 409
		problem.members += `,"version":"` + strconv.FormatUint(rejected.ConflictVersion, 10) + `"`
	}
	return problem
}

func members(index int, field string) string {
	text := `,"index":` + strconv.Itoa(index)
	if field != "" {
		text += `,"field":"` + field + `"`
	}
	return text
}

func readTransactions(body []byte) ([]ledger.NewTransaction, *problem) {
	entries, err := splitTransactions(body)
	switch {
	case err != nil:
		return nil, bad(400, `expected a transaction, an array of them, or {"transactions":[…]}: %v`, err)
	case len(entries) == 0:
		return nil, bad(400, "expected at least one transaction, found none")
	case len(entries) > transactionsMax:
		return nil, bad(413, "expected at most %d transactions, found %d", transactionsMax, len(entries))
	}
	transactions := make([]ledger.NewTransaction, len(entries))
	for index, entry := range entries {
		field, err := readTransaction(entry, &transactions[index])
		if err != nil {
			problem := bad(400, "transaction %d: %v", index, err)
			problem.members = members(index, field)
			return nil, problem
		}
	}
	return transactions, nil
}

func splitTransactions(body []byte) ([]json.RawMessage, error) {
	var entries []json.RawMessage
	if bytes.HasPrefix(bytes.TrimLeft(body, " \t\r\n"), []byte{'['}) {
		err := json.Unmarshal(body, &entries)
		return entries, err
	}
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(body, &keys); err != nil {
		return nil, err
	}
	if list, ok := keys["transactions"]; ok && len(keys) == 1 {
		err := json.Unmarshal(list, &entries)
		return entries, err
	}
	return []json.RawMessage{body}, nil
}

// readTransaction reads one; an error comes with the field that is wrong, if it is one.
func readTransaction(entry json.RawMessage, into *ledger.NewTransaction) (string, error) {
	var fields transactionFields
	if err := (stdCodec{}).Decode(entry, &fields); err != nil {
		return "", err
	}
	var isRead bool
	id := text(fields.TransactionID)
	if into.ID, isRead = parseUUID(id); !isRead || !isString(fields.TransactionID) {
		return wrong("transaction_id", expectedTransactionID, fields.TransactionID)
	}
	if into.UserID, isRead = parseUserID(text(fields.UserID)); !isRead || fields.UserID == nil {
		return wrong("user_id", expectedUser, fields.UserID)
	}
	if into.Asset = text(fields.Asset); !domain.IsAsset(into.Asset) || !isString(fields.Asset) {
		return wrong("asset", expectedAsset, fields.Asset)
	}
	if into.Kind, isRead = domain.ParseKind(text(fields.Kind)); !isRead {
		return wrong("kind", expectedKind, fields.Kind)
	}
	amount, isRead := parseUserID(text(fields.Amount))
	if into.Amount = int64(amount); !isRead || amount == 0 {
		return wrong("amount", expectedAmount, fields.Amount)
	}
	if into.OccurredAtUS, isRead = domain.ParseTime(text(fields.OccurredAt)); !isRead || !isString(fields.OccurredAt) {
		return wrong("occurred_at", expectedOccurredAt, fields.OccurredAt)
	}
	return "", nil
}

func wrong(field, expected string, found json.RawMessage) (string, error) {
	shown := "nothing"
	if isString(found) {
		shown = quote(cut(text(found)))
	} else if found != nil {
		shown = cut(string(found))
	}
	return field, bad(400, "%s: expected %s, found %s", field, expected, shown)
}

// cut shortens what came to what is worth showing.
func cut(text string) string {
	const shown = 64
	if utf8.RuneCountInString(text) <= shown {
		return text
	}
	return string([]rune(text)[:shown])
}

func isString(raw json.RawMessage) bool { return len(raw) > 0 && raw[0] == '"' }

// text is a string's content, or a number's digits; nothing where the value is neither.
func text(raw json.RawMessage) string {
	if isString(raw) {
		var text string
		if json.Unmarshal(raw, &text) != nil {
			return ""
		}
		return text
	}
	return string(raw)
}

// parseUUID reads the hyphenated form, in either case, into the ledger's: lower case.
func parseUUID(text string) (string, bool) {
	parts := strings.Split(text, "-")
	if len(parts) != 5 {
		return "", false
	}
	for index, length := range []int{8, 4, 4, 4, 12} {
		if _, err := hex.DecodeString(parts[index]); err != nil || len(parts[index]) != length {
			return "", false
		}
	}
	return strings.ToLower(text), true
}
