package florin

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/florin-db/florin/clients/go/internal/frame"
)

// Status says how a request ended.
type Status uint8

// The statuses of the protocol.
const (
	StatusOK Status = iota
	StatusNotFound
	StatusInvalidRequest
	StatusStale
	StatusUnavailable
	StatusOverloaded
	StatusUnauthenticated
	StatusPermissionDenied
	StatusInternal
	StatusNotOwner
)

var statusNames = [...]string{
	"OK", "NOT_FOUND", "INVALID_REQUEST", "STALE", "UNAVAILABLE", "OVERLOADED", "UNAUTHENTICATED", "PERMISSION_DENIED",
	"INTERNAL", "NOT_OWNER",
}

// String returns the status's name in JSON answers and metrics.
func (s Status) String() string {
	if int(s) < len(statusNames) {
		return statusNames[s]
	}
	return fmt.Sprintf("Status(%d)", uint8(s))
}

// One error for each status, for errors.Is. A StatusError carries the server's message.
var (
	// ErrNotFound: the ledger has never named this user. A user with nothing left has a balance of zero instead.
	ErrNotFound = errors.New("florin: the ledger has never named this user")
	// ErrInvalidRequest: the message says which field is wrong.
	ErrInvalidRequest = errors.New("florin: invalid request")
	// ErrStale: MinVersion or MaxAge did not hold, within Wait if one was given.
	ErrStale = errors.New("florin: no answer is fresh enough")
	// ErrUnavailable: the server is warming up or draining, or has lost its ledger for too long. Or this one account cannot
	// be shown, for its first transaction is missing: then StatusError.Quarantined is true, and where that lasts, so that the
	// client does not ask again, StatusError.Lasting.
	ErrUnavailable = errors.New("florin: the server cannot answer at the moment")
	// ErrOverloaded: the request was shed; it is safe to send it again, later.
	ErrOverloaded = errors.New("florin: the server is overloaded")
	// ErrUnauthenticated: the server asks for a token.
	ErrUnauthenticated = errors.New("florin: unauthenticated")
	// ErrPermissionDenied: the token does not allow this.
	ErrPermissionDenied = errors.New("florin: permission denied")
	// ErrInternal: a defect of the server's.
	ErrInternal = errors.New("florin: the server has met a defect of its own")
	// ErrNotOwner: none of the nodes that the client was given has this user at the moment.
	ErrNotOwner = errors.New("florin: another node has this user")
)

// The client's own errors, for errors.Is.
var (
	// ErrDisconnected: no connection could carry the request, or it was lost before the answer came. See
	// DisconnectedError.
	ErrDisconnected = errors.New("florin: disconnected")
	// ErrProtocol: what came is no legal reply. See ProtocolError.
	ErrProtocol = errors.New("florin: protocol error")
	// ErrQueueFull: more requests wait for a connection that takes nothing than the client holds.
	ErrQueueFull = errors.New("florin: the connection takes no more requests at the moment")
	// ErrOtherNode: a shard's port leads to another node than the one that named it. See IdentityError.
	ErrOtherNode = errors.New("florin: another node answers")
	// ErrOtherLedger: an address leads to a node of another ledger than this client has been told of before. See
	// IdentityError.
	ErrOtherLedger = errors.New("florin: another ledger answers")
	// ErrClosed: the client was closed.
	ErrClosed = errors.New("florin: the client is closed")
)

var statusErrors = [...]error{
	nil, ErrNotFound, ErrInvalidRequest, ErrStale, ErrUnavailable, ErrOverloaded, ErrUnauthenticated,
	ErrPermissionDenied, ErrInternal, ErrNotOwner,
}

// StatusError is an answer that the server gave instead of data.
type StatusError struct {
	Metadata
	Status Status
	// Message is the server's: what was expected, what came, what to do.
	Message string
}

func (e *StatusError) Error() string { return "florin: " + e.Status.String() + ": " + e.Message }

// Unwrap returns the status's own error.
func (e *StatusError) Unwrap() error { return statusErrors[e.Status] }

// DisconnectedError is a connection that is not there, or no longer. Reads may be repeated.
type DisconnectedError struct {
	// Address is where the connection led.
	Address string
	// Cause is what ended it, or what keeps it from being made.
	Cause error
}

func (e *DisconnectedError) Error() string {
	hint := ""
	if errors.Is(e.Cause, syscall.ECONNREFUSED) {
		hint = "; is the node running, and with this address?"
	}
	return fmt.Sprintf("florin: no connection to %s: %v%s", e.Address, e.Cause, hint)
}

// Unwrap returns the cause.
func (e *DisconnectedError) Unwrap() error { return e.Cause }

// Is makes every DisconnectedError an ErrDisconnected.
func (e *DisconnectedError) Is(target error) bool { return target == ErrDisconnected }

// IdentityError is a connection that leads elsewhere than it should; nothing is asked there.
type IdentityError struct {
	// IsLedger says that the ledger is another: the answers would be of other accounts. Otherwise the node is.
	IsLedger bool
	// Expected is the id that was told first, Got is what this connection's Hello said.
	Expected, Got uint64
}

func (e *IdentityError) Error() string {
	if e.IsLedger {
		return fmt.Sprintf("florin: expected ledger %016x, which this client was told of first, got ledger %016x: the "+
			"address leads to a node of another ledger. Correct it; a client for the other ledger is a new client",
			e.Expected, e.Got)
	}
	return fmt.Sprintf("florin: expected node %016x, whose shard map names this port, got node %016x: the port leads to "+
		"another node (a translated address, or a node that was started anew)", e.Expected, e.Got)
}

// Is makes an IdentityError an ErrOtherNode or an ErrOtherLedger.
func (e *IdentityError) Is(target error) bool {
	return e.IsLedger && target == ErrOtherLedger || !e.IsLedger && target == ErrOtherNode
}

// ProtocolError is a reply that no version-1 server sends.
type ProtocolError struct {
	// Field is where it is wrong: a field of the header, or body.
	Field string
	// Problem is what was expected there and what came.
	Problem string
}

func (e *ProtocolError) Error() string {
	return "florin: protocol error: " + e.Field + ": " + e.Problem
}

// Is makes every ProtocolError an ErrProtocol.
func (e *ProtocolError) Is(target error) bool { return target == ErrProtocol }

func protocolError(err error) error {
	var field *frame.FieldError
	if errors.As(err, &field) {
		return &ProtocolError{Field: field.Field, Problem: "expected " + field.Expected + ", got " + field.Got}
	}
	return &ProtocolError{Field: "body", Problem: err.Error()}
}

func unexpected(field string, expected, got any) error {
	return &ProtocolError{Field: field, Problem: fmt.Sprintf("expected %v, got %v", expected, got)}
}
