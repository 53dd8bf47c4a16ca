package florin

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/florin-db/florin/clients/go/internal/frame"
)

// ReadOption asks something of an answer's freshness: MinVersion, MaxAge, Wait.
type ReadOption struct {
	freshness frame.Freshness
}

// MinVersion asks for an answer that includes the account's transactions up to this version: what a write returned, to
// read one's own write. Where the server has not got that far, the answer is ErrStale.
func MinVersion(version uint64) ReadOption {
	return ReadOption{frame.Freshness{MinVersion: version}}
}

// MaxAge asks for an answer whose watermark is no older than this, in whole milliseconds, at least one. Where it is, the
// answer is ErrStale.
func MaxAge(age time.Duration) ReadOption {
	return ReadOption{frame.Freshness{MaxAgeMS: milliseconds(age)}}
}

// Wait lets the server hold the request until MinVersion and MaxAge hold, for so many whole milliseconds; it waits no
// longer than one second.
func Wait(limit time.Duration) ReadOption {
	return ReadOption{frame.Freshness{WaitMS: milliseconds(limit)}}
}

// milliseconds rounds up, so that no option that was given becomes one that was not.
func milliseconds(duration time.Duration) uint32 {
	if duration <= 0 {
		return 0
	}
	return uint32(min((duration-1)/time.Millisecond+1, math.MaxUint32))
}

func freshness(options []ReadOption) frame.Freshness {
	var asked frame.Freshness
	for _, option := range options {
		if option.freshness.MinVersion != 0 {
			asked.MinVersion = option.freshness.MinVersion
		}
		if option.freshness.MaxAgeMS != 0 {
			asked.MaxAgeMS = option.freshness.MaxAgeMS
		}
		if option.freshness.WaitMS != 0 {
			asked.WaitMS = option.freshness.WaitMS
		}
	}
	return asked
}

// GetBalance returns what the user holds.
func (c *Client) GetBalance(ctx context.Context, userID uint64, options ...ReadOption) (*Balance, error) {
	call := newCall(frame.GetBalance)
	defer call.free()
	call.userID, call.wanted = userID, freshness(options)
	if err := c.do(ctx, call, 1); err != nil {
		return nil, err
	}
	return call.balance, nil
}

// GetStatistics returns the user's statistics over the windows; 0 asks for all four.
func (c *Client) GetStatistics(ctx context.Context, userID uint64, windows Windows, options ...ReadOption) (*Statistics, error) {
	if windows == 0 {
		windows = AllWindows
	}
	call := newCall(frame.GetStatistics)
	defer call.free()
	call.userID, call.windows, call.wanted = userID, windows, freshness(options)
	if err := c.do(ctx, call, 1); err != nil {
		return nil, err
	}
	return call.statistics, nil
}

// Ping sends up to 1,024 bytes to a shard and back.
func (c *Client) Ping(ctx context.Context, payload []byte) (Metadata, error) {
	if len(payload) > frame.PingBytesMax {
		return Metadata{}, fmt.Errorf("florin: Ping: expected at most %d bytes, got %d", frame.PingBytesMax, len(payload))
	}
	call := newCall(frame.Ping)
	defer call.free()
	call.body = payload
	if err := c.do(ctx, call, 0); err != nil {
		return Metadata{}, err
	}
	return call.origin, nil
}

// GetBalances returns what several users hold: one entry for each id, in their order, duplicates included, each with its
// own status. The ids are split by the nodes and shards that own them, and into requests of at most 1,024, all sent at once.
//
// MinVersion is judged entry by entry. An error is returned only where nothing could be answered, where ctx was cancelled, or where the
// caller has to do something about it: where nobody answers about some of the users while there is time, the others have their balances,
// and these entries say StatusUnavailable, StatusOverloaded or StatusStale.
func (c *Client) GetBalances(ctx context.Context, userIDs []uint64, options ...ReadOption) (*Batch, error) {
	batch := &Batch{Entries: make([]BatchEntry, len(userIDs))}
	if len(userIDs) == 0 {
		return batch, nil
	}
	parts, asked := c.split(userIDs, batch.Entries), freshness(options)
	ctx, began := c.options.Hooks.start(ctx, frame.GetBalances, len(userIDs))
	c.doAll(ctx, parts, asked)
	parts = c.follow(ctx, userIDs, parts, asked)
	err := join(ctx, batch, parts)
	c.options.Hooks.end(ctx, began, parts[0].call, len(userIDs), sum(parts), err)
	for _, part := range parts {
		part.call.free()
	}
	if err != nil {
		return nil, err
	}
	return batch, nil
}

// part is a request for some of a batch's users.
type part struct {
	call *call
	// places are where its entries go; nil where they lie in the batch already, for there is but one part.
	places []int
	err    error

	connection *connection
	sent       sent
	isSent     bool
	tried      attempts
}

// split makes the parts, whose entries hold the ids. What fits into one request uses the batch's own entries.
func (c *Client) split(userIDs []uint64, entries []BatchEntry) []*part {
	fleet, shards := c.fleet.Load(), uint16(1)
	if routes := c.known(); routes != nil && routes.isDirect {
		shards = routes.shards
	}
	if fleet.divided == nil && shards == 1 && len(userIDs) <= frame.BatchUsersMax {
		for index, userID := range userIDs {
			entries[index].UserID = userID
		}
		call := newCall(frame.GetBalances)
		call.userID, call.entries = userIDs[0], entries
		return []*part{{call: call}}
	}
	all := make([]int, len(userIDs))
	for index := range all {
		all[index] = index
	}
	return fleet.split(userIDs, all, shards)
}

// company says what users have in common who are asked for in one request.
type company struct {
	holders [frame.HoldersMax]*node
	shard   int
}

// split puts those users together that are at the given places and have the same holders and, at the owner, the same shard; where
// that is not known, of so many.
func (f *fleet) split(userIDs []uint64, asked []int, shards uint16) []*part {
	var groups [][]int
	numbers := map[company]int{}
	for _, place := range asked {
		var group company
		group.holders, _ = f.holdersOf(userIDs[place])
		group.shard = frame.Shard(userIDs[place], group.holders[0].shardsOr(shards))
		number, ok := numbers[group]
		if !ok {
			number, groups = len(groups), append(groups, nil)
			numbers[group] = number
		}
		groups[number] = append(groups[number], place)
	}
	var parts []*part
	for _, places := range groups {
		for chunk := range slices.Chunk(places, frame.BatchUsersMax) {
			part := newPart(userIDs, chunk)
			part.call.divided = f.epoch()
			parts = append(parts, part)
		}
	}
	return parts
}

// follow asks for those again, and put together anew, of whose parts a user is another node's by a map that has been learned since.
func (c *Client) follow(ctx context.Context, userIDs []uint64, parts []*part, asked frame.Freshness) []*part {
	var cancel context.CancelFunc
	for {
		var moved []int
		var stay []*part
		fleet := c.fleet.Load()
		for _, part := range parts {
			isMoved := errors.Is(part.err, ErrNotOwner) && fleet.epoch() != part.call.divided && !c.options.FailFast
			if !isMoved || ctx.Err() != nil {
				stay = append(stay, part)
				continue
			}
			moved = append(moved, part.asked()...)
			part.call.free()
		}
		if len(moved) == 0 {
			return parts
		}
		if _, hasDeadline := ctx.Deadline(); !hasDeadline {
			ctx, cancel = context.WithTimeout(ctx, c.options.Deadline)
			defer cancel()
		}
		anew := fleet.split(userIDs, moved, 1)
		c.doAll(ctx, anew, asked)
		parts = append(stay, anew...)
	}
}

func newPart(userIDs []uint64, places []int) *part {
	call := newCall(frame.GetBalances)
	call.entries = make([]BatchEntry, len(places))
	for index, place := range places {
		call.entries[index].UserID = userIDs[place]
	}
	call.userID = call.entries[0].UserID
	return &part{call: call, places: places}
}

// asked are the places of the part's users.
func (p *part) asked() []int {
	if p.places != nil {
		return p.places
	}
	all := make([]int, len(p.call.entries))
	for index := range all {
		all[index] = index
	}
	return all
}

// doAll sends all parts before it waits for any, and goes on with those that could not be answered, all at once.
func (c *Client) doAll(ctx context.Context, parts []*part, asked frame.Freshness) {
	for _, part := range parts {
		part.call.wanted = asked
		if part.connection, part.err = c.pick(ctx, part.call, tour{}, false); part.err == nil {
			c.tellAttempt(ctx, part.call, &part.tried)
			part.sent, part.err = c.send(part.connection, part.call)
			part.isSent = part.err == nil
		}
	}
	for _, part := range parts {
		if part.isSent {
			part.err = c.wait(ctx, part.connection, part.call, part.sent, &part.tried)
		}
	}
	var repeating sync.WaitGroup
	for _, part := range parts {
		if part.err != nil {
			repeating.Go(func() { part.err = c.again(ctx, part.call, &part.tried, part.err) })
		}
	}
	repeating.Wait()
}

// sum returns the attempts of all parts.
func sum(parts []*part) attempts {
	var all attempts
	for _, part := range parts {
		all.requests += part.tried.requests
		all.isHedged = all.isHedged || part.tried.isHedged
	}
	return all
}

// join puts the parts' entries into the batch.
func join(ctx context.Context, batch *Batch, parts []*part) error {
	var refusal error
	answered := 0
	for _, part := range parts {
		status, isOwn := entryStatus(part.err)
		switch {
		case part.err == nil:
			answered++
		case errors.Is(ctx.Err(), context.Canceled):
			// Nobody wants the others' answers any more, whatever became of these.
			return fmt.Errorf("%w (%w)", part.err, ctx.Err())
		case isOwn:
			refusal = part.err
			for entry := range part.call.entries {
				part.call.entries[entry].Status, part.call.entries[entry].Balance = status, nil
			}
		default:
			return part.err
		}
		for entry, place := range part.places {
			batch.Entries[place] = part.call.entries[entry]
		}
		origin := part.call.origin
		if part.err != nil {
			continue
		}
		if answered == 1 {
			batch.Metadata = origin
			continue
		}
		if origin.AsOf.Before(batch.AsOf) {
			batch.AsOf = origin.AsOf
		}
		batch.Forwarded = batch.Forwarded || origin.Forwarded
		batch.Quarantined = batch.Quarantined || origin.Quarantined
	}
	if answered == 0 {
		return refusal
	}
	return nil
}

// entryStatus is what an entry says where err is why it has no answer; false where the caller has to do something about it, or wants
// none any more.
func entryStatus(err error) (Status, bool) {
	var status *StatusError
	switch {
	case err == nil, errors.Is(err, context.Canceled), isFinal(err):
		return StatusOK, false
	case errors.As(err, &status):
		switch status.Status {
		case StatusUnavailable, StatusOverloaded, StatusStale:
			return status.Status, true
		case StatusNotOwner:
			if errors.Is(err, context.DeadlineExceeded) {
				return StatusUnavailable, true
			}
			return StatusNotOwner, true
		}
		return StatusOK, false
	default:
		return StatusUnavailable, errors.Is(err, ErrDisconnected) || errors.Is(err, context.DeadlineExceeded)
	}
}
