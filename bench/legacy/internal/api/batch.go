package api

import (
	"bytes"
	"fmt"
)

// batchUsersMax is how many users one batch may name.
const batchUsersMax = 1_024

// batchRequest is the body of a batch.
type batchRequest struct {
	UserIDs userIDs `json:"user_ids"`
}

// userIDs are read from strings and from numbers, as the protobuf JSON mapping has 64-bit integers.
type userIDs struct {
	list []uint64
}

// UnmarshalJSON implements json.Unmarshaler.
func (ids *userIDs) UnmarshalJSON(text []byte) error {
	parser := parser{text: text}
	list, err := parser.ids(ids.list[:0])
	ids.list = list
	return err
}

var userIDsKey = []byte(`"user_ids"`)

// readBatch reads the ids of a batch into the request, which the caller reuses. What the library will not read, or reads
// differently from the contract (its key in capitals, or twice), is read by the parser that can say what is wrong with it
// in the contract's words.
func readBatch(codec Codec, text []byte, request *batchRequest) *problem {
	scratch := request.UserIDs.list[:0]
	if bytes.Count(text, userIDsKey) != 1 || codec.Decode(text, request) != nil {
		parser := parser{text: text}
		ids, err := parser.batch(scratch)
		if err != nil {
			return bad(400, `body: expected {"user_ids":["1","2"]}: %v`, err)
		}
		request.UserIDs.list = ids
	}
	if count := len(request.UserIDs.list); count == 0 || count > batchUsersMax {
		return bad(400, "user_ids: expected 1 to %d ids, got %d", batchUsersMax, count)
	}
	return nil
}

// syntaxError is what is wrong with a body, and where.
type syntaxError struct {
	message      string
	line, column int
}

func (e *syntaxError) Error() string {
	return fmt.Sprintf("%s at line %d column %d", e.message, e.line, e.column)
}
