package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/bytedance/sonic"
	"github.com/bytedance/sonic/encoder"
)

// Codec is the JSON library in use.
type Codec interface {
	// Append appends the value's JSON.
	Append(out []byte, value any) ([]byte, error)
	// Decode reads JSON that has no other keys than the value.
	Decode(text []byte, value any) error
}

// Codecs are the JSON libraries by name.
var Codecs = map[string]Codec{
	// std is encoding/json.
	"std": stdCodec{},
	// sonic compiles an encoder for each type, and is what Go services change to for speed.
	"sonic": sonicCodec{},
}

type stdCodec struct{}

// stdEncoder is an encoder with the buffer that it writes to: making one for each answer is what costs.
type stdEncoder struct {
	buffer bytes.Buffer
	*json.Encoder
}

var stdEncoders = sync.Pool{New: func() any {
	e := new(stdEncoder)
	e.Encoder = json.NewEncoder(&e.buffer)
	e.SetEscapeHTML(false)
	return e
}}

func (stdCodec) Append(out []byte, value any) ([]byte, error) {
	e := stdEncoders.Get().(*stdEncoder)
	defer stdEncoders.Put(e)
	e.buffer.Reset()
	if err := e.Encode(value); err != nil {
		return out, err
	}
	return append(out, bytes.TrimSuffix(e.buffer.Bytes(), []byte{'\n'})...), nil
}

func (stdCodec) Decode(text []byte, value any) error {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(value); err != nil {
		return err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("trailing characters at %d", decoder.InputOffset())
	}
	return nil
}

type sonicCodec struct{}

var sonicConfig = sonic.Config{DisallowUnknownFields: true, CopyString: true}.Froze()

func (sonicCodec) Append(out []byte, value any) ([]byte, error) {
	err := encoder.EncodeInto(&out, value, 0)
	return out, err
}

func (sonicCodec) Decode(text []byte, value any) error { return sonicConfig.Unmarshal(text, value) }
