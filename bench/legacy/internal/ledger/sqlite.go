package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"

	// The driver.
	_ "modernc.org/sqlite"
)

// sqliteLedger is an SQLite file.
type sqliteLedger struct {
	path string
	// reader has one connection, for the one that follows; writer another, for SQLite has one writer at a time.
	reader, writer *sql.DB
	page, account  *sql.Stmt
	// seq is the last row that was given: commits are in its order.
	seq int64
}

func openSQLite(path string) (*sqliteLedger, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("cannot open the ledger: %w", err)
	}
	l := &sqliteLedger{path: path}
	if err := l.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot open the ledger %s: %w", path, err), l.Close())
	}
	return l, nil
}

func (l *sqliteLedger) open() error {
	location := (&url.URL{Scheme: "file", OmitHost: true, Path: l.path}).String()
	var err error
	if l.reader, err = sql.Open("sqlite", location+"?mode=rw&_pragma=busy_timeout(30000)&_pragma=query_only(1)"); err != nil {
		return err
	}
	l.reader.SetMaxOpenConns(1)
	if l.writer, err = sql.Open("sqlite", location+"?mode=rw&_txlock=immediate&_pragma=busy_timeout(30000)&_pragma=synchronous(full)"); err != nil {
		return err
	}
	l.writer.SetMaxOpenConns(1)
	if l.page, err = l.reader.Prepare("SELECT " + columns + " FROM transactions WHERE seq > ? ORDER BY seq LIMIT ?"); err != nil {
		return err
	}
	l.account, err = l.reader.Prepare("SELECT " + columns + " FROM transactions WHERE user_id = ? ORDER BY version")
	return err
}

// Close implements [Ledger].
func (l *sqliteLedger) Close() error {
	var errs []error
	for _, db := range []*sql.DB{l.reader, l.writer} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	return errors.Join(errs...)
}

// Next implements [Ledger].
func (l *sqliteLedger) Next(ctx context.Context, limit int, visit func(*Row)) (int, error) {
	return visitAll(ctx, l.page, []any{l.seq, limit}, func(row *Row) {
		l.seq = row.Seq
		visit(row)
	})
}

// Account implements [Ledger].
func (l *sqliteLedger) Account(ctx context.Context, userID uint64, visit func(*Row)) error {
	_, err := visitAll(ctx, l.account, []any{int64(userID)}, visit)
	return err
}

func visitAll(ctx context.Context, statement *sql.Stmt, values []any, visit func(*Row)) (int, error) {
	rows, err := statement.QueryContext(ctx, values...)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	var scan scanner
	count := 0
	for rows.Next() {
		row, err := scan.row(rows)
		if err != nil {
			return count, err
		}
		visit(row)
		count++
	}
	return count, rows.Err()
}

// scanner reads rows into places that it reuses.
type scanner struct {
	values  [7]any
	places  [7]any
	current Row
}

// row reads one row. SQLite columns hold values of any type, so each is looked at.
func (s *scanner) row(rows *sql.Rows) (*Row, error) {
	for index := range s.values {
		s.places[index] = &s.values[index]
	}
	if err := rows.Scan(s.places[:]...); err != nil {
		return nil, err
	}
	integer := func(column int) int64 {
		if number, ok := s.values[column].(int64); ok {
			return number
		}
		return nothing
	}
	asset, _ := s.values[3].(string)
	found := cells{
		seq: integer(0), userID: integer(1), version: integer(2), asset: asset, kind: integer(4), amount: integer(5),
		occurredAt: integer(6),
	}
	found.into(&s.current)
	return &s.current, nil
}

const (
	insertSQL = "INSERT INTO transactions (transaction_id, user_id, version, asset, kind, amount, occurred_at) " +
		"VALUES (?, ?, ?, ?, ?, ?, ?)"
	existingSQL = "SELECT version, user_id, asset, kind, amount, occurred_at FROM transactions WHERE transaction_id = ?"
	lastSQL     = "SELECT coalesce(max(version), 0) FROM transactions WHERE user_id = ?"
	assetsSQL   = "SELECT count(DISTINCT asset), coalesce(sum(asset = ?2), 0) FROM transactions WHERE user_id = ?1"
)

// Append implements [Ledger].
func (l *sqliteLedger) Append(ctx context.Context, transactions []NewTransaction) ([]Appended, error) {
	// The transaction is IMMEDIATE: no other writer comes between the version that is read and the row that gets it.
	tx, err := l.writer.BeginTx(ctx, nil)
	if err != nil {
		return nil, fmt.Errorf("cannot write to the ledger: %w", err)
	}
	defer tx.Rollback()
	appended, err := appendAll(ctx, sqliteWriter{tx}, transactions)
	if err != nil {
		return nil, err
	}
	if err := tx.Commit(); err != nil {
		return nil, fmt.Errorf("cannot commit to the ledger: %w", err)
	}
	return appended, nil
}

type sqliteWriter struct{ tx *sql.Tx }

func (w sqliteWriter) existing(ctx context.Context, id string) (*NewTransaction, error) {
	var found NewTransaction
	err := w.tx.QueryRowContext(ctx, existingSQL, id).Scan(
		&found.Version, &found.UserID, &found.Asset, &found.Kind, &found.Amount, &found.OccurredAtUS)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return &found, err
}

func (w sqliteWriter) assets(ctx context.Context, userID uint64, asset string) (count, same int64, err error) {
	err = w.tx.QueryRowContext(ctx, assetsSQL, int64(userID), asset).Scan(&count, &same)
	return count, same, err
}

func (w sqliteWriter) last(ctx context.Context, userID uint64) (version uint64, err error) {
	err = w.tx.QueryRowContext(ctx, lastSQL, int64(userID)).Scan(&version)
	return version, err
}

func (w sqliteWriter) insert(ctx context.Context, row *NewTransaction) error {
	_, err := w.tx.ExecContext(ctx, insertSQL,
		row.ID, int64(row.UserID), int64(row.Version), row.Asset, int64(row.Kind), row.Amount, row.OccurredAtUS)
	return err
}
