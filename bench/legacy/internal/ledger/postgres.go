package ledger

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// appendTries is how often a request is begun anew because somebody added the same id meanwhile.
	appendTries = 3
	// openTimeout is how long the server may take to answer at all.
	openTimeout = 10 * time.Second
	// stemBytes is how much of a table's name is in the names of what stands beside it.
	stemBytes = 40
)

// postgresLedger is a table in a PostgreSQL, as `florin ledger init` makes it.
type postgresLedger struct {
	pool *pgxpool.Pool
	// table and accounts are their names as SQL has them.
	table, accounts string
	tail            tail
	isBegun         bool
	page            []Row
}

func openPostgres(ctx context.Context, address string) (*postgresLedger, error) {
	config, table, err := parsePostgres(address)
	if err != nil {
		return nil, err
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("cannot open the ledger: %w", err)
	}
	l := &postgresLedger{pool: pool, table: table.quoted(), accounts: table.beside("accounts").quoted()}
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	var exists bool
	if err := pool.QueryRow(ctx, "SELECT to_regclass($1) IS NOT NULL", l.table).Scan(&exists); err != nil {
		pool.Close()
		return nil, fmt.Errorf("cannot open the ledger: %w", err)
	}
	if !exists {
		pool.Close()
		return nil, fmt.Errorf("cannot open the ledger: the database has no table %s: make it with florin ledger init", l.table)
	}
	return l, nil
}

// tableName is a table's, with its schema.
type tableName struct{ schema, table string }

func (n tableName) quoted() string { return pgx.Identifier{n.schema, n.table}.Sanitize() }

func (n tableName) beside(suffix string) tableName {
	end := min(len(n.table), stemBytes)
	for end < len(n.table) && !utf8.RuneStart(n.table[end]) {
		end--
	}
	return tableName{n.schema, n.table[:end] + "_" + suffix}
}

// parsePostgres reads an address as florin has it: with table, publication and slot among its parameters, and encrypted to
// another host unless it says otherwise.
func parsePostgres(address string) (*pgxpool.Config, tableName, error) {
	table := tableName{"public", "transactions"}
	location, err := url.Parse(address)
	if err != nil {
		return nil, table, fmt.Errorf("--ledger: expected %s: %w", Expected, errors.Unwrap(err))
	}
	parameters := location.Query()
	if named := parameters.Get("table"); named != "" {
		schema, name, found := strings.Cut(named, ".")
		if !found {
			schema, name = "public", named
		}
		table = tableName{schema, name}
	}
	for _, florins := range []string{"table", "publication", "slot"} {
		parameters.Del(florins)
	}
	if !parameters.Has("sslmode") {
		parameters.Set("sslmode", "verify-full")
		if host := location.Hostname(); host == "" || host == "localhost" || host == "::1" || strings.HasPrefix(host, "127.") {
			parameters.Set("sslmode", "disable")
		}
	}
	if !parameters.Has("target_session_attrs") {
		parameters.Set("target_session_attrs", "primary")
	}
	location.RawQuery = parameters.Encode()
	config, err := pgxpool.ParseConfig(location.String())
	if err != nil {
		return nil, table, fmt.Errorf("--ledger: %w", err)
	}
	for name, value := range map[string]string{
		"application_name": "legacy", "search_path": "", "timezone": "UTC", "default_transaction_isolation": "read committed",
		"lock_timeout": "5000",
	} {
		config.ConnConfig.RuntimeParams[name] = value
	}
	return config, table, nil
}

// Close implements [Ledger].
func (l *postgresLedger) Close() error {
	l.pool.Close()
	return nil
}

// Next implements [Ledger].
func (l *postgresLedger) Next(ctx context.Context, limit int, visit func(*Row)) (int, error) {
	watched, settled := l.tail.watched, l.tail.settled
	if !l.isBegun || !l.tail.isWhole() {
		drawn := l.tail.last
		if !l.isBegun {
			// What the table holds was drawn before it is asked who holds the table.
			if err := l.pool.QueryRow(ctx, "SELECT coalesce(max(seq), 0) FROM "+l.table).Scan(&drawn); err != nil {
				return 0, err
			}
		}
		holders, err := l.holders(ctx)
		if err != nil {
			return 0, err
		}
		watched, settled = l.tail.look(drawn, holders)
	}
	// One statement sees one moment: of an account it has what was committed up to then, and nothing from between.
	first, last := l.tail.bounds()
	query := fmt.Sprintf("SELECT %[1]s FROM unnest($1::bigint[], $2::bigint[]) AS missing (first, last) JOIN %[2]s ON seq BETWEEN first AND last "+
		"UNION ALL (SELECT %[1]s FROM %[2]s WHERE seq > $3 ORDER BY seq LIMIT $4)", columns, l.table)
	l.page = l.page[:0]
	if err := l.visitAll(ctx, query, []any{first, last, l.tail.last, limit}, func(row *Row) { l.page = append(l.page, *row) }); err != nil {
		return 0, err
	}
	// Only what was read whole is taken in.
	l.isBegun = true
	l.tail.settle(watched, settled)
	slices.SortFunc(l.page, func(a, b Row) int { return cmp.Compare(a.Seq, b.Seq) })
	for index := range l.page {
		l.tail.saw(l.page[index].Seq)
	}
	slices.SortFunc(l.page, func(a, b Row) int {
		return cmp.Or(cmp.Compare(a.UserID, b.UserID), cmp.Compare(a.Version, b.Version))
	})
	for index := range l.page {
		visit(&l.page[index])
	}
	return len(l.page), nil
}

// holders are those who may be inserting rows now.
func (l *postgresLedger) holders(ctx context.Context) ([]string, error) {
	rows, err := l.pool.Query(ctx, "SELECT virtualtransaction FROM pg_locks WHERE locktype = 'relation' AND granted AND relation = to_regclass($1) "+
		"AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) "+
		"AND mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')", l.table)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// Account implements [Ledger].
func (l *postgresLedger) Account(ctx context.Context, userID uint64, visit func(*Row)) error {
	query := fmt.Sprintf("SELECT %s FROM %s WHERE user_id = $1 ORDER BY version", columns, l.table)
	return l.visitAll(ctx, query, []any{int64(userID)}, visit)
}

func (l *postgresLedger) visitAll(ctx context.Context, query string, values []any, visit func(*Row)) error {
	rows, err := l.pool.Query(ctx, query, values...)
	if err != nil {
		return err
	}
	var found cells
	var row Row
	places := []any{&found.seq, &found.userID, &found.version, &found.asset, &found.kind, &found.amount, &found.occurredAt}
	_, err = pgx.ForEachRow(rows, places, func() error {
		found.into(&row)
		visit(&row)
		return nil
	})
	return err
}

// Append implements [Ledger].
func (l *postgresLedger) Append(ctx context.Context, transactions []NewTransaction) ([]Appended, error) {
	var appended []Appended
	var err error
	for range appendTries {
		err = pgx.BeginFunc(ctx, l.pool, func(tx pgx.Tx) error {
			w := postgresWriter{tx, l}
			if err := w.lock(ctx, transactions); err != nil {
				return fmt.Errorf("cannot write to the ledger: %w", err)
			}
			judged, err := appendAll(ctx, w, transactions)
			appended = judged
			return err
		})
		// Somebody added the same id, to another account, and has just committed; or waited for what this held.
		var refused *pgconn.PgError
		if !errors.As(err, &refused) || !slices.Contains([]string{"23505", "40001", "40P01"}, refused.Code) {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	return appended, nil
}

type postgresWriter struct {
	pgx.Tx
	of *postgresLedger
}

// lock keeps others from the accounts until the transaction ends; all writers take them in one order.
func (w postgresWriter) lock(ctx context.Context, transactions []NewTransaction) error {
	users := make([]int64, len(transactions))
	for index := range transactions {
		users[index] = int64(transactions[index].UserID)
	}
	slices.Sort(users)
	users = slices.Compact(users)
	if _, err := w.Exec(ctx, "INSERT INTO "+w.of.accounts+" (user_id) SELECT unnest($1::bigint[]) ON CONFLICT DO NOTHING", users); err != nil {
		return err
	}
	_, err := w.Exec(ctx, "SELECT 1 FROM "+w.of.accounts+" WHERE user_id = ANY ($1) ORDER BY user_id FOR NO KEY UPDATE", users)
	return err
}

func (w postgresWriter) existing(ctx context.Context, id string) (*NewTransaction, error) {
	var found NewTransaction
	err := w.QueryRow(ctx, "SELECT version, user_id, asset, kind, amount, occurred_at FROM "+w.of.table+" WHERE transaction_id = $1", id).Scan(
		&found.Version, &found.UserID, &found.Asset, &found.Kind, &found.Amount, &found.OccurredAtUS)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	return &found, err
}

func (w postgresWriter) assets(ctx context.Context, userID uint64, asset string) (count, same int64, err error) {
	err = w.QueryRow(ctx, "SELECT count(DISTINCT asset), count(*) FILTER (WHERE asset = $2) FROM "+w.of.table+" WHERE user_id = $1", int64(userID), asset).
		Scan(&count, &same)
	return count, same, err
}

func (w postgresWriter) last(ctx context.Context, userID uint64) (version uint64, err error) {
	err = w.QueryRow(ctx, "SELECT coalesce(max(version), 0) FROM "+w.of.table+" WHERE user_id = $1", int64(userID)).Scan(&version)
	return version, err
}

func (w postgresWriter) insert(ctx context.Context, row *NewTransaction) error {
	_, err := w.Exec(ctx, "INSERT INTO "+w.of.table+" (transaction_id, user_id, version, asset, kind, amount, occurred_at) "+
		"VALUES ($1, $2, $3, $4, $5, $6, $7)",
		row.ID, int64(row.UserID), int64(row.Version), row.Asset, int16(row.Kind), row.Amount, row.OccurredAtUS)
	return err
}
