// Package flat says whether a FlatBuffers body may be read.
//
// Go's FlatBuffers runtime trusts its input: a wrong offset panics, and offsets that point to one table many times
// make a small body look large. These checks follow every offset that the generated accessors will follow, for exactly
// the tables of florin.fbs, so that what passes them can be read without either. They bound each vector by the protocol's
// own limits, so that reading allocates no more than a legal reply does.
package flat

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"

	"github.com/florin-db/florin/clients/go/internal/frame"
)

// Sizes of the schema's structs and scalars, in bytes.
const (
	byteBytes             = 1
	shortBytes            = 2
	offsetBytes           = 4
	longBytes             = 8
	assetBalanceBytes     = 24
	windowStatisticsBytes = 40
)

var (
	errOutside = errors.New("an offset points outside the body")
	errVtable  = errors.New("a table's layout does not fit into the body")
)

// Balance checks a body whose root is a Balance.
func Balance(body []byte) error {
	table, err := root(body)
	if err != nil {
		return err
	}
	return balance(table)
}

// Statistics checks a body whose root is a Statistics.
func Statistics(body []byte) error {
	table, err := root(body)
	if err != nil {
		return err
	}
	if err := table.scalars(longBytes, longBytes, byteBytes, skip, longBytes, longBytes); err != nil {
		return err
	}
	windows, err := table.byte(2)
	if err != nil {
		return err
	}
	if windows == 0 || windows > 15 {
		return fmt.Errorf("windows: expected a mask of 1 to 15, got %d", windows)
	}
	assets, err := table.vector(3, offsetBytes)
	if err != nil {
		return err
	}
	if assets.length > frame.AssetsMax {
		return fmt.Errorf("statistics: expected at most %d assets, got %d", frame.AssetsMax, assets.length)
	}
	for index := range assets.length {
		if err := assetStatistics(assets, index, bits.OnesCount8(windows)); err != nil {
			return err
		}
	}
	return nil
}

// Balances checks a body whose root is a Balances of so many entries.
func Balances(body []byte, entries int) error {
	table, err := root(body)
	if err != nil {
		return err
	}
	found, err := table.vector(0, offsetBytes)
	if err != nil {
		return err
	}
	if found.length != entries {
		return fmt.Errorf("entries: expected %d, got %d", entries, found.length)
	}
	for index := range found.length {
		entry, err := found.table(index)
		if err != nil {
			return err
		}
		if err := entry.scalars(longBytes, byteBytes, skip, byteBytes); err != nil {
			return err
		}
		held, present, err := entry.table(2)
		if err != nil {
			return err
		}
		if present {
			if err := balance(held); err != nil {
				return err
			}
		}
	}
	return nil
}

// HelloReply checks a body whose root is a HelloReply.
func HelloReply(body []byte) error {
	table, err := root(body)
	if err != nil {
		return err
	}
	if err := table.scalars(skip, shortBytes, skip, skip, longBytes, longBytes, longBytes); err != nil {
		return err
	}
	for _, field := range []struct{ slot, size int }{{0, byteBytes}, {2, shortBytes}, {3, byteBytes}} {
		if _, err := table.vector(field.slot, field.size); err != nil {
			return err
		}
	}
	nodes, present, err := table.table(7)
	if err != nil || !present {
		return err
	}
	return nodeMap(nodes)
}

func nodeMap(table table) error {
	if err := table.scalars(longBytes, skip, skip, skip, byteBytes); err != nil {
		return err
	}
	for _, field := range []struct{ slot, size int }{{1, byteBytes}, {3, shortBytes}} {
		if _, err := table.vector(field.slot, field.size); err != nil {
			return err
		}
	}
	nodes, err := table.vector(2, offsetBytes)
	if err != nil {
		return err
	}
	if nodes.length > frame.NodesMax {
		return fmt.Errorf("nodes: expected at most %d, got %d", frame.NodesMax, nodes.length)
	}
	for index := range nodes.length {
		node, err := nodes.table(index)
		if err != nil {
			return err
		}
		if err := node.scalars(longBytes, skip, shortBytes, shortBytes); err != nil {
			return err
		}
		if _, err := node.vector(1, byteBytes); err != nil {
			return err
		}
	}
	return nil
}

func balance(table table) error {
	if err := table.scalars(longBytes, longBytes, longBytes); err != nil {
		return err
	}
	rows, err := table.vector(3, assetBalanceBytes)
	if err != nil {
		return err
	}
	if rows.length > frame.AssetsMax {
		return fmt.Errorf("balances: expected at most %d, got %d", frame.AssetsMax, rows.length)
	}
	return nil
}

func assetStatistics(assets vector, index, windows int) error {
	table, err := assets.table(index)
	if err != nil {
		return err
	}
	if err := table.scalars(longBytes); err != nil {
		return err
	}
	found, err := table.vector(1, windowStatisticsBytes)
	if err != nil {
		return err
	}
	if found.length != windows {
		return fmt.Errorf("windows: expected %d for each asset, got %d", windows, found.length)
	}
	return nil
}

// table is a table whose vtable, and itself, lie within the body.
type table struct {
	body   []byte
	at     int
	bytes  int
	vtable []byte
}

// vector is a vector whose elements lie within the body.
type vector struct {
	body   []byte
	at     int
	length int
}

func root(body []byte) (table, error) {
	if len(body) < offsetBytes {
		return table{}, fmt.Errorf("expected %d bytes or more, got %d", offsetBytes, len(body))
	}
	return tableAt(body, uint64(binary.LittleEndian.Uint32(body)))
}

func tableAt(body []byte, at uint64) (table, error) {
	if at+offsetBytes > uint64(len(body)) {
		return table{}, errOutside
	}
	back := int32(binary.LittleEndian.Uint32(body[at:]))
	vtableAt := int64(at) - int64(back)
	if vtableAt < 0 || vtableAt+4 > int64(len(body)) {
		return table{}, errOutside
	}
	vtable := body[vtableAt:]
	vtableBytes, tableBytes := int(binary.LittleEndian.Uint16(vtable)), int(binary.LittleEndian.Uint16(vtable[2:]))
	// An odd length would let the accessors read half of its last entry from behind it.
	if vtableBytes < 4 || vtableBytes%2 != 0 || vtableBytes > len(vtable) {
		return table{}, errVtable
	}
	if tableBytes < offsetBytes || at+uint64(tableBytes) > uint64(len(body)) {
		return table{}, errVtable
	}
	return table{body: body, at: int(at), bytes: tableBytes, vtable: vtable[:vtableBytes]}, nil
}

// field returns where the field in the slot lies, or false where the table has none.
func (t table) field(slot, size int) (int, bool, error) {
	entry := 4 + 2*slot
	if entry >= len(t.vtable) {
		return 0, false, nil
	}
	offset := int(binary.LittleEndian.Uint16(t.vtable[entry:]))
	if offset == 0 {
		return 0, false, nil
	}
	if offset < offsetBytes || offset+size > t.bytes {
		return 0, false, errVtable
	}
	return t.at + offset, true, nil
}

// skip marks a slot that holds no scalar.
const skip = 0

// scalars checks the fields of the first slots, given their sizes.
func (t table) scalars(sizes ...int) error {
	for slot, size := range sizes {
		if size == skip {
			continue
		}
		if _, _, err := t.field(slot, size); err != nil {
			return err
		}
	}
	return nil
}

func (t table) byte(slot int) (uint8, error) {
	at, present, err := t.field(slot, byteBytes)
	if err != nil || !present {
		return 0, err
	}
	return t.body[at], nil
}

// follow returns where the offset in the slot points to.
func (t table) follow(slot int) (uint64, bool, error) {
	at, present, err := t.field(slot, offsetBytes)
	if err != nil || !present {
		return 0, false, err
	}
	return uint64(at) + uint64(binary.LittleEndian.Uint32(t.body[at:])), true, nil
}

func (t table) table(slot int) (table, bool, error) {
	at, present, err := t.follow(slot)
	if err != nil || !present {
		return table{}, false, err
	}
	found, err := tableAt(t.body, at)
	return found, true, err
}

// vector returns the vector in the slot; one that is not there has no elements.
func (t table) vector(slot, elementBytes int) (vector, error) {
	at, present, err := t.follow(slot)
	if err != nil || !present {
		return vector{}, err
	}
	if at+offsetBytes > uint64(len(t.body)) {
		return vector{}, errOutside
	}
	length := uint64(binary.LittleEndian.Uint32(t.body[at:]))
	if at+offsetBytes+length*uint64(elementBytes) > uint64(len(t.body)) {
		return vector{}, errOutside
	}
	return vector{body: t.body, at: int(at) + offsetBytes, length: int(length)}, nil
}

// table returns an element of a vector of tables.
func (v vector) table(index int) (table, error) {
	at := v.at + offsetBytes*index
	return tableAt(v.body, uint64(at)+uint64(binary.LittleEndian.Uint32(v.body[at:])))
}
