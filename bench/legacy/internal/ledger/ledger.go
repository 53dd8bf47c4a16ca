// Package ledger reads and writes the ledger: one SQLite file with the table of schemas/ledger.sql.
package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"

	"github.com/florin-db/florin/bench/legacy/internal/domain"
	// The driver.
	_ "modernc.org/sqlite"
)

// Ledger is an open ledger.
type Ledger struct {
	path string
	// reader has one connection, for the one that follows; writer another, for SQLite has one writer at a time.
	reader, writer *sql.DB
	page, account  *sql.Stmt
}

// Row is a row with its place in the order of commits.
type Row struct {
	Seq int64
	domain.Transaction
	// Fault is why no transaction can be made of the row; its user is known then, if UserKnown says so.
	Fault     error
	UserKnown bool
}

const columns = "seq, user_id, version, asset, kind, amount, occurred_at"

// Open opens a ledger that exists.
func Open(path string) (*Ledger, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("cannot open the ledger: %w", err)
	}
	l := &Ledger{path: path}
	if err := l.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot open the ledger %s: %w", path, err), l.Close())
	}
	return l, nil
}

func (l *Ledger) open() error {
	location := (&url.URL{Scheme: "file", OmitHost: true, Path: l.path}).String()
	var err error
	if l.reader, err = sql.Open("sqlite", location+"?mode=rw&_pragma=busy_timeout(5000)&_pragma=query_only(1)"); err != nil {
		return err
	}
	l.reader.SetMaxOpenConns(1)
	if l.writer, err = sql.Open("sqlite", location+"?mode=rw&_txlock=immediate&_pragma=busy_timeout(5000)&_pragma=synchronous(full)"); err != nil {
		return err
	}
	l.writer.SetMaxOpenConns(1)
	if l.page, err = l.reader.Prepare("SELECT " + columns + " FROM transactions WHERE seq > ? ORDER BY seq LIMIT ?"); err != nil {
		return err
	}
	l.account, err = l.reader.Prepare("SELECT " + columns + " FROM transactions WHERE user_id = ? ORDER BY version")
	return err
}

// Close closes it.
func (l *Ledger) Close() error {
	var errs []error
	for _, db := range []*sql.DB{l.reader, l.writer} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	return errors.Join(errs...)
}

// After gives each row after a place to visit, in the order of commits, at most limit of them; it returns how many.
func (l *Ledger) After(ctx context.Context, seq int64, limit int, visit func(*Row)) (int, error) {
	return visitAll(ctx, l.page, []any{seq, limit}, visit)
}

// Account gives each of a user's rows to visit, in the order of their versions.
func (l *Ledger) Account(ctx context.Context, userID uint64, visit func(*Row)) error {
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
	integer := func(column int, from, to int64) (int64, bool) {
		number, ok := s.values[column].(int64)
		return number, ok && from <= number && number <= to
	}
	row := &s.current
	*row = Row{}
	seq, _ := integer(0, 0, domain.UserIDMax)
	userID, hasUser := integer(1, 0, domain.UserIDMax)
	version, hasVersion := integer(2, 1, domain.UserIDMax)
	asset, _ := s.values[3].(string)
	kind, hasKind := integer(4, int64(domain.Recharge), int64(domain.Capture))
	amount, hasAmount := integer(5, 1, domain.UserIDMax)
	occurredAt, hasTime := integer(6, domain.OccurredAtMinUS, domain.OccurredAtMaxUS)
	row.Seq, row.UserKnown = seq, hasUser
	row.Transaction = domain.Transaction{
		UserID:       uint64(userID),
		Version:      uint64(version),
		Asset:        asset,
		Kind:         domain.Kind(kind),
		Amount:       amount,
		OccurredAtUS: occurredAt,
	}
	if !hasUser || !hasVersion || !domain.IsAsset(asset) || !hasKind || !hasAmount || !hasTime {
		row.Fault = fmt.Errorf("row %d is no transaction: %v", seq, s.values[1:])
	}
	return row, nil
}
