package florin

import (
	"errors"
	"fmt"
	"sync"

	"github.com/florin-db/florin/clients/go/internal/frame"
)

// errBehind says that an answer shows less of a user than has been shown before: none at all, for a caller.
var errBehind = errors.New("florin: another node has shown more")

// mark is the highest version that was shown of a user, and the id of the node that showed it.
type mark struct{ version, node uint64 }

// seen keeps what has been shown of the users that were read last, at least seenMax of them, so that no other node shows
// less: when the young half is full it becomes the old one, which is forgotten.
type seen struct {
	mu         sync.Mutex
	young, old map[uint64]mark
}

func newSeen() *seen { return &seen{young: map[uint64]mark{}} }

func (s *seen) mark(userID uint64) mark {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.get(userID)
}

func (s *seen) get(userID uint64) mark {
	if mark, ok := s.young[userID]; ok {
		return mark
	}
	return s.old[userID]
}

// show keeps what the call's answer shows, all of it, or says where it is behind and keeps nothing.
func (s *seen) show(call *call, node uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for userID, version := range call.shown {
		if shown := s.get(userID).version; version < shown {
			return behindError(call.origin, userID, shown, version)
		}
	}
	for userID, version := range call.shown {
		if version == 0 {
			continue
		}
		if _, ok := s.young[userID]; !ok && len(s.young) >= seenMax {
			s.young, s.old = make(map[uint64]mark, seenMax), s.young
		}
		s.young[userID] = mark{version, node}
	}
	return nil
}

func behindError(origin Metadata, userID, shown, got uint64) error {
	message := fmt.Sprintf("user_id: expected version %d of %d or more, which another node has shown, got %d",
		shown, userID, got)
	return fmt.Errorf("%w: %w", errBehind, &StatusError{Metadata: origin, Status: StatusStale, Message: message})
}

// shown are the users in the call's answer and their versions, 0 where there is no such user.
func (c *call) shown(yield func(userID, version uint64) bool) {
	switch c.opcode {
	case frame.GetBalance:
		yield(c.balance.UserID, c.balance.Version)
	case frame.GetStatistics:
		yield(c.statistics.UserID, c.statistics.Version)
	case frame.GetBalances:
		for index := range c.entries {
			entry := &c.entries[index]
			switch {
			case entry.Balance != nil:
				if !yield(entry.UserID, entry.Balance.Version) {
					return
				}
			case entry.Status == StatusNotFound:
				if !yield(entry.UserID, 0) {
					return
				}
			}
		}
	}
}
