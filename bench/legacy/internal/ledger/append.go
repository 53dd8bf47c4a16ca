package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/florin-db/florin/bench/legacy/internal/domain"
)

// NewTransaction is a transaction on its way into the ledger, which assigns its version.
type NewTransaction struct {
	// ID is a UUID in lower case.
	ID string
	domain.Transaction
}

// Appended is what became of a transaction.
type Appended struct {
	Version uint64
	// Duplicate says that the ledger held it already, so that nothing was written.
	Duplicate bool
}

// Rejection is why a transaction may not enter; then none of its request did.
type Rejection struct {
	// Index is its place in the request.
	Index int
	// Field is where to look first.
	Field string
	// ConflictVersion is the version of the transaction that has the id; 0 where that is not the reason.
	ConflictVersion uint64
	Message         string
}

func (r *Rejection) Error() string { return r.Message }

const (
	insertSQL = "INSERT INTO transactions (transaction_id, user_id, version, asset, kind, amount, occurred_at) " +
		"VALUES (?, ?, ?, ?, ?, ?, ?)"
	existingSQL = "SELECT version, user_id, asset, kind, amount, occurred_at FROM transactions WHERE transaction_id = ?"
	lastSQL     = "SELECT coalesce(max(version), 0) FROM transactions WHERE user_id = ?"
	assetsSQL   = "SELECT count(DISTINCT asset), coalesce(sum(asset = ?2), 0) FROM transactions WHERE user_id = ?1"
)

// Append appends all of them in one database transaction, in their order, and returns when they are durable. One that
// the ledger holds already changes nothing, and gets the version that it has.
func (l *Ledger) Append(ctx context.Context, transactions []NewTransaction) ([]Appended, error) {
	// The transaction is IMMEDIATE: no other writer comes between the version that is read and the row that gets it.
	tx, err := l.writer.BeginTx(ctx, nil)
	if err != nil {
		return nil, fmt.Errorf("cannot write to the ledger: %w", err)
	}
	defer tx.Rollback()
	appended := make([]Appended, len(transactions))
	for index := range transactions {
		if appended[index], err = appendOne(ctx, tx, &transactions[index]); err != nil {
			var rejection *Rejection
			if errors.As(err, &rejection) {
				rejection.Index = index
				return nil, rejection
			}
			return nil, fmt.Errorf("cannot write to the ledger: %w", err)
		}
	}
	if err := tx.Commit(); err != nil {
		return nil, fmt.Errorf("cannot commit to the ledger: %w", err)
	}
	return appended, nil
}

func appendOne(ctx context.Context, tx *sql.Tx, row *NewTransaction) (Appended, error) {
	var found NewTransaction
	err := tx.QueryRowContext(ctx, existingSQL, row.ID).Scan(
		&found.Version, &found.UserID, &found.Asset, &found.Kind, &found.Amount, &found.OccurredAtUS)
	switch {
	case err == nil:
		return compare(row, &found)
	case !errors.Is(err, sql.ErrNoRows):
		return Appended{}, err
	}
	var assets, same int64
	if err := tx.QueryRowContext(ctx, assetsSQL, int64(row.UserID), row.Asset).Scan(&assets, &same); err != nil {
		return Appended{}, err
	}
	if assets >= domain.AssetsMax && same == 0 {
		return Appended{}, &Rejection{Field: "asset", Message: fmt.Sprintf(
			"asset: user %d has %d assets already, the most an account can hold; %s would be one more",
			row.UserID, domain.AssetsMax, row.Asset)}
	}
	var last uint64
	if err := tx.QueryRowContext(ctx, lastSQL, int64(row.UserID)).Scan(&last); err != nil {
		return Appended{}, err
	}
	_, err = tx.ExecContext(ctx, insertSQL,
		row.ID, int64(row.UserID), int64(last+1), row.Asset, int64(row.Kind), row.Amount, row.OccurredAtUS)
	return Appended{Version: last + 1}, err
}

// compare says whether the row that has the id already is this one.
func compare(row, found *NewTransaction) (Appended, error) {
	var field string
	switch {
	case row.UserID != found.UserID:
		field = "user_id"
	case row.Asset != found.Asset:
		field = "asset"
	case row.Kind != found.Kind:
		field = "kind"
	case row.Amount != found.Amount:
		field = "amount"
	case row.OccurredAtUS != found.OccurredAtUS:
		field = "occurred_at"
	default:
		return Appended{Version: found.Version, Duplicate: true}, nil
	}
	return Appended{}, &Rejection{Field: "transaction_id", ConflictVersion: found.Version, Message: fmt.Sprintf(
		"transaction_id: %s is in the ledger already, with another %s (version %d of its account); send the same content again, or a new id",
		row.ID, field, found.Version)}
}
