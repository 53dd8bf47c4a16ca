package ledger

import (
	"context"
	"fmt"
	"math/rand/v2"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
)

// Rows whose places were drawn earlier are committed later: a follower that asks only for higher places never has them.
func TestPlacesAreMissedUntilNobodyCanFillThem(t *testing.T) {
	l := fresh(t)["postgres"].(*postgresLedger)
	ctx := t.Context()
	session := func() *pgx.Conn {
		conn, err := pgx.ConnectConfig(ctx, l.pool.Config().ConnConfig)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close(context.Background()) })
		return conn
	}
	a, b := session(), session()
	do := func(conn *pgx.Conn, format string, values ...any) {
		t.Helper()
		if _, err := conn.Exec(ctx, fmt.Sprintf(format, values...)); err != nil {
			t.Fatal(err)
		}
	}
	insert := func(conn *pgx.Conn, id, user int) {
		t.Helper()
		do(conn, "INSERT INTO bank.rows (transaction_id, user_id, asset, kind, amount, occurred_at) VALUES ('00000000-0000-4000-8000-%012d', %d, 'COIN', 1, 1, 0)", id, user)
	}
	next := func(want ...uint64) {
		t.Helper()
		var got []uint64
		if _, err := l.Next(ctx, 100, func(row *Row) { got = append(got, row.UserID) }); err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("rows of %v where those of %v were expected, %v; %+v", got, want, err, l.tail)
		}
	}
	// Drawn before anything is read, and committed after.
	do(a, "BEGIN")
	insert(a, 1, 1)
	insert(b, 2, 2)
	next(2)
	next()
	do(a, "COMMIT")
	next(1)
	// Rolled back: its place is given up, and no one is watched any more.
	do(a, "BEGIN")
	insert(a, 3, 3)
	insert(b, 4, 4)
	next(4)
	do(a, "ROLLBACK")
	next()
	next()
	if !l.tail.isWhole() {
		t.Errorf("%+v", l.tail)
	}
	// Prepared: whoever began it is gone, and it may still be committed.
	do(a, "BEGIN")
	insert(a, 5, 5)
	insert(b, 6, 6)
	next(6)
	next()
	do(a, "PREPARE TRANSACTION 'later'")
	next()
	next()
	do(b, "COMMIT PREPARED 'later'")
	next(5)
	next()
	if !l.tail.isWhole() {
		t.Errorf("%+v", l.tail)
	}
}

// Many writers, some of which roll back or take their time: whoever follows has every row once, and each account's in the
// order of their versions.
func TestWhoFollowsHasEveryRowOnceAndInOrder(t *testing.T) {
	l := fresh(t)["postgres"].(*postgresLedger)
	ctx := t.Context()
	var group sync.WaitGroup
	var committed atomic.Int64
	for writer := range 6 {
		group.Go(func() {
			random := rand.New(rand.NewPCG(uint64(writer), 0))
			for step := range 60 {
				err := pgx.BeginFunc(ctx, l.pool, func(tx pgx.Tx) error {
					count := 1 + random.IntN(4)
					for row := range count {
						// In one order, so that no two wait for each other.
						_, err := tx.Exec(ctx, "INSERT INTO bank.rows (transaction_id, user_id, asset, kind, amount, occurred_at) VALUES ($1, $2, 'COIN', 1, 1, 0)",
							fmt.Sprintf("00000000-0000-4000-8000-%04d%04d%04d", writer, step, row), row*2+random.IntN(2))
						if err != nil {
							return err
						}
					}
					if random.IntN(4) == 0 {
						return pgx.ErrTxClosed
					}
					committed.Add(int64(count))
					return nil
				})
				if err != nil && err != pgx.ErrTxClosed {
					t.Error(err)
				}
			}
		})
	}
	ended := make(chan struct{})
	go func() { group.Wait(); close(ended) }()
	versions := map[uint64]uint64{}
	total := int64(0)
	for isLast := false; ; {
		_, err := l.Next(ctx, 100, func(row *Row) {
			if row.Version != versions[row.UserID]+1 {
				t.Errorf("user %d: version %d after %d", row.UserID, row.Version, versions[row.UserID])
			}
			versions[row.UserID] = row.Version
			total++
		})
		if err != nil {
			t.Fatal(err)
		}
		if isLast {
			break
		}
		select {
		case <-ended:
			isLast = true
		default:
		}
	}
	if total != committed.Load() || total == 0 {
		t.Errorf("%d rows where %d were committed", total, committed.Load())
	}
}

func TestMissingPlacesAreKeptAsSpans(t *testing.T) {
	var known tail
	for _, seq := range []int64{5, 10, 7, 6, 4, 1, 20} {
		known.saw(seq)
	}
	if want := []span{{2, 3}, {8, 9}, {11, 19}}; !reflect.DeepEqual(known.missing, want) {
		t.Errorf("%v", known.missing)
	}
	known.settle(nil, 12)
	if want := []span{{13, 19}}; !reflect.DeepEqual(known.missing, want) {
		t.Errorf("%v", known.missing)
	}
	known.saw(3)
	watched, settled := known.look(20, []string{"3/1"})
	if watched == nil || settled != 12 {
		t.Errorf("%v %d", watched, settled)
	}
	known.watched = watched
	if watched, settled := known.look(21, []string{"4/1", "3/1"}); watched.upTo != 20 || settled != 12 {
		t.Errorf("%v %d", watched, settled)
	}
	if watched, settled := known.look(21, []string{"4/1"}); watched.upTo != 21 || settled != 20 {
		t.Errorf("%v %d", watched, settled)
	}
}
