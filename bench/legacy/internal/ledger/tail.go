package ledger

import (
	"slices"
	"strings"
)

// tail is how far a PostgreSQL's rows were read. Their places (seq) are drawn from a sequence when a row is inserted, and
// commits come in another order: a place below the last one that is not there belongs to a row that is still to come, or to
// one that never will. Who inserts holds a lock on the table from before the place is drawn until after the commit is
// visible. So a missing place is given up once all have ended that held one when the place was known to be drawn.
type tail struct {
	last    int64
	missing []span
	// settled is up to where nothing is missing any more, whatever places have no row.
	settled int64
	watched *watch
}

// span is the places from the first to the last of them.
type span struct{ first, last int64 }

// watch is who could still commit places up to some place.
type watch struct {
	upTo    int64
	holders []string
}

// isWhole says whether nothing is missing, so that nobody has to be watched.
func (t *tail) isWhole() bool { return len(t.missing) == 0 }

// look takes in who holds the table now, of whom every place up to drawn was drawn before. It returns the watch to go on
// with, and up to where every row that will ever come is seen by whoever reads after this.
func (t *tail) look(drawn int64, holders []string) (*watch, int64) {
	settled := t.settled
	watched := t.watched
	if watched != nil && haveEnded(watched.holders, holders) {
		settled, watched = max(settled, watched.upTo), nil
	}
	if watched == nil && drawn > settled {
		if watched = (&watch{upTo: drawn, holders: holders}); len(holders) == 0 {
			settled, watched = drawn, nil
		}
	}
	return watched, settled
}

// haveEnded says whether none of those who held the table then holds it now. One that was prepared meanwhile bears another
// name, so any that is prepared counts.
func haveEnded(then, now []string) bool {
	return !slices.ContainsFunc(now, func(holder string) bool {
		return strings.HasPrefix(holder, "-1/") || slices.Contains(then, holder)
	})
}

// settle gives up what is missing up to a place.
func (t *tail) settle(watched *watch, settled int64) {
	t.watched, t.settled = watched, settled
	kept := t.missing[:0]
	for _, one := range t.missing {
		if one.last > settled {
			kept = append(kept, span{max(one.first, settled+1), one.last})
		}
	}
	if t.missing = kept; len(kept) == 0 {
		t.watched = nil
	}
}

// saw takes in that the row at a place was read.
func (t *tail) saw(seq int64) {
	if seq > t.last {
		if first := max(t.last, t.settled) + 1; first < seq {
			t.missing = append(t.missing, span{first, seq - 1})
		}
		t.last = seq
		return
	}
	index, _ := slices.BinarySearchFunc(t.missing, seq, func(one span, seq int64) int {
		switch {
		case one.last < seq:
			return -1
		case one.first > seq:
			return 1
		}
		return 0
	})
	if index == len(t.missing) || seq < t.missing[index].first {
		return
	}
	one := t.missing[index]
	rest := slices.DeleteFunc([]span{{one.first, seq - 1}, {seq + 1, one.last}}, func(s span) bool { return s.first > s.last })
	t.missing = slices.Replace(t.missing, index, index+1, rest...)
}

// bounds are the missing places as two columns.
func (t *tail) bounds() (first, last []int64) {
	first, last = make([]int64, len(t.missing)), make([]int64, len(t.missing))
	for index, one := range t.missing {
		first[index], last[index] = one.first, one.last
	}
	return first, last
}
