package api

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// parser reads the body of a batch, {"user_ids":["1","2"]}, and nothing else. Its messages, and the places that they
// name, are those of the server that this service shares its contract with; they are part of the bodies that callers see.
// The struct may also be written as an array of its one field, as that server reads it.
type parser struct {
	text []byte
	at   int
}

const (
	expectedID    = "each of user_ids to be 0 to 9223372036854775807, as a string or a number"
	expectedIDs   = "a sequence"
	expectedBatch = "struct Batch"
	eofValue      = "EOF while parsing a value"
	eofList       = "EOF while parsing a list"
	eofObject     = "EOF while parsing an object"
	eofString     = "EOF while parsing a string"
	invalidNumber = "invalid number"
	field         = "user_ids"
)

// here is an error at what has been read.
func (p *parser) here(format string, values ...any) error { return p.errorAt(p.at, format, values...) }

// peeked is an error at the byte that comes next.
func (p *parser) peeked(message string) error {
	return p.errorAt(min(len(p.text), p.at+1), "%s", message)
}

func (p *parser) errorAt(index int, format string, values ...any) error {
	before := p.text[:index]
	start := bytes.LastIndexByte(before, '\n') + 1
	return &syntaxError{
		message: fmt.Sprintf(format, values...),
		line:    1 + bytes.Count(before[:start], []byte{'\n'}),
		column:  index - start,
	}
}

// next skips white space and returns the byte that follows, unread; 0 at the end.
func (p *parser) next() byte {
	for ; p.at < len(p.text); p.at++ {
		if c := p.text[p.at]; c != ' ' && c != '\n' && c != '\t' && c != '\r' {
			return c
		}
	}
	return 0
}

func (p *parser) atEnd() bool { return p.at >= len(p.text) }

// batch reads the whole body.
func (p *parser) batch(ids []uint64) ([]uint64, error) {
	var err error
	switch c := p.next(); {
	case p.atEnd():
		err = p.peeked(eofValue)
	case c == '{':
		p.at++
		ids, err = p.object(ids)
	case c == '[':
		err = errors.New("invalid type: sequence, expected an object")
	default:
		err = p.wrongType(expectedBatch)
	}
	if err != nil {
		return nil, err
	}
	if p.next(); !p.atEnd() {
		return nil, p.peeked("trailing characters")
	}
	return ids, nil
}

func (p *parser) object(ids []uint64) ([]uint64, error) {
	isRead := false
	for first := true; ; first = false {
		c := p.next()
		if c == '}' {
			p.at++
			if !isRead {
				return nil, p.here("missing field `%s`", field)
			}
			return ids, nil
		}
		if err := p.beforeKey(c, first); err != nil {
			return nil, err
		}
		p.at++
		key, err := p.string()
		if err != nil {
			return nil, err
		}
		if key != field || isRead {
			message := fmt.Sprintf("unknown field `%s`, expected `%s`", key, field)
			if key == field {
				message = fmt.Sprintf("duplicate field `%s`", field)
			}
			p.skipEnd('}')
			return nil, p.here("%s", message)
		}
		switch c := p.next(); {
		case c == ':':
			p.at++
		case p.atEnd():
			return nil, p.peeked(eofObject)
		default:
			return nil, p.peeked("expected `:`")
		}
		if ids, err = p.ids(ids); err != nil {
			return nil, err
		}
		isRead = true
	}
}

// beforeKey reads up to a key's quotation mark; c is the byte that comes next.
func (p *parser) beforeKey(c byte, first bool) error {
	switch {
	case p.atEnd():
		return p.peeked(eofObject)
	case first && c != '"':
		return p.peeked("key must be a string")
	case first:
		return nil
	case c != ',':
		return p.peeked("expected `,` or `}`")
	}
	p.at++
	switch c := p.next(); {
	case p.atEnd():
		return p.peeked(eofValue)
	case c == '}':
		return p.peeked("trailing comma")
	case c != '"':
		return p.peeked("key must be a string")
	}
	return nil
}

// ids reads an array of ids.
func (p *parser) ids(ids []uint64) ([]uint64, error) {
	switch c := p.next(); {
	case p.atEnd():
		return nil, p.peeked(eofValue)
	case c != '[':
		return nil, p.wrongType(expectedIDs)
	}
	p.at++
	if ids == nil {
		ids = []uint64{}
	}
	for first := true; ; first = false {
		c := p.next()
		switch {
		case p.atEnd():
			return nil, p.peeked(eofList)
		case c == ']':
			p.at++
			return ids, nil
		case !first && c != ',':
			return nil, p.peeked("expected `,` or `]`")
		case !first:
			p.at++
			switch c = p.next(); {
			case p.atEnd():
				return nil, p.peeked(eofValue)
			case c == ']':
				return nil, p.peeked("trailing comma")
			}
		}
		id, err := p.id(c)
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
}

// id reads one id; c is its first byte.
func (p *parser) id(c byte) (uint64, error) {
	if c == '"' {
		p.at++
		text, err := p.string()
		if err != nil {
			return 0, err
		}
		id, ok := parseUserID(text)
		if !ok {
			if why := misspelling(text); why != "" {
				return 0, p.here("invalid value: string %s%s", quote(text), why)
			}
			return 0, p.here("invalid value: string %s, expected %s", quote(text), expectedID)
		}
		return id, nil
	}
	if c < '0' || c > '9' {
		return 0, p.wrongType(expectedID)
	}
	text, err := p.number()
	if err != nil {
		return 0, err
	}
	number, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, p.wrongNumber(text, expectedID)
	}
	id, ok := parseUserID(text)
	if !ok {
		return 0, p.here("invalid value: integer `%d`, expected %s", number, expectedID)
	}
	return id, nil
}

// wrongType is the error for a value of another type than expected, which comes next.
func (p *parser) wrongType(expected string) error {
	var found string
	switch c := p.text[p.at]; {
	case c == 'n':
		return p.wrongIdent("null", "null", expected)
	case c == 't':
		return p.wrongIdent("true", "boolean `true`", expected)
	case c == 'f':
		return p.wrongIdent("false", "boolean `false`", expected)
	case c == '-' || '0' <= c && c <= '9':
		text, err := p.number()
		if err != nil {
			return err
		}
		return p.wrongNumber(text, expected)
	case c == '"':
		p.at++
		text, err := p.string()
		if err != nil {
			return err
		}
		found = "string " + quote(text)
	case c == '[':
		found = "sequence"
		// An element has been entered before its type was seen to be wrong; a whole body or list has not.
		if expected == expectedID {
			p.at++
			p.skipEnd(']')
		}
	case c == '{':
		found = "map"
		if expected == expectedID {
			p.at++
			p.skipEnd('}')
		}
	default:
		return p.peeked("expected value")
	}
	return p.here("invalid type: %s, expected %s", found, expected)
}

// skipEnd reads white space, and the closing bracket if it follows: where the error is, is what follows then.
func (p *parser) skipEnd(bracket byte) {
	c := p.next()
	if c == bracket {
		p.at++
	} else if c == ',' && bracket == ']' {
		p.at++
		p.next()
	}
}

func (p *parser) wrongIdent(ident, found, expected string) error {
	p.at++
	for _, c := range []byte(ident[1:]) {
		if p.atEnd() {
			return p.here(eofValue)
		}
		p.at++
		if p.text[p.at-1] != c {
			return p.here("expected ident")
		}
	}
	return p.here("invalid type: %s, expected %s", found, expected)
}

// wrongNumber is the error for a number where none, or another, is expected.
func (p *parser) wrongNumber(text, expected string) error {
	if number, err := strconv.ParseUint(text, 10, 64); err == nil {
		return p.here("invalid type: integer `%d`, expected %s", number, expected)
	}
	if number, err := strconv.ParseInt(text, 10, 64); err == nil && number != 0 {
		return p.here("invalid type: integer `%d`, expected %s", number, expected)
	}
	number, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return p.here("number out of range")
	}
	return p.here("invalid type: floating point `%s`, expected %s", showFloat(number), expected)
}

// showFloat writes the shortest digits that lead back to the number: with an exponent where it has more than 16 digits
// before its point, or more than four zeros behind it.
func showFloat(number float64) string {
	mantissa, exponent, _ := strings.Cut(strconv.FormatFloat(number, 'e', -1, 64), "e")
	power, _ := strconv.Atoi(exponent)
	if number != 0 && (power < -5 || power > 15) {
		return fmt.Sprintf("%se%+d", mantissa, power)
	}
	shown := strconv.FormatFloat(number, 'f', -1, 64)
	if !strings.Contains(shown, ".") {
		shown += ".0"
	}
	return shown
}

// number reads a number's text.
func (p *parser) number() (string, error) {
	start := p.at
	if p.text[p.at] == '-' {
		p.at++
	}
	if err := p.digits(); err != nil {
		return "", err
	}
	if first := strings.TrimPrefix(string(p.text[start:p.at]), "-"); len(first) > 1 && first[0] == '0' {
		p.at = p.at - len(first) + 1
		return "", p.peeked(invalidNumber)
	}
	if !p.atEnd() && p.text[p.at] == '.' {
		p.at++
		if err := p.digits(); err != nil {
			return "", err
		}
	}
	if !p.atEnd() && (p.text[p.at] == 'e' || p.text[p.at] == 'E') {
		p.at++
		if !p.atEnd() && (p.text[p.at] == '+' || p.text[p.at] == '-') {
			p.at++
		}
		if err := p.digits(); err != nil {
			return "", err
		}
	}
	return string(p.text[start:p.at]), nil
}

// digits reads one digit or more.
func (p *parser) digits() error {
	start := p.at
	for !p.atEnd() && '0' <= p.text[p.at] && p.text[p.at] <= '9' {
		p.at++
	}
	switch {
	case p.at > start:
		return nil
	case p.atEnd():
		return p.peeked(eofValue)
	default:
		return p.peeked(invalidNumber)
	}
}

// string reads a string behind its opening quotation mark.
func (p *parser) string() (string, error) {
	var out []byte
	for {
		if p.atEnd() {
			return "", p.here(eofString)
		}
		c := p.text[p.at]
		p.at++
		switch {
		case c == '"':
			if !utf8.Valid(out) {
				p.at--
				return "", p.here("invalid unicode code point")
			}
			return string(out), nil
		case c < ' ':
			return "", p.here(`control character (\u0000-\u001F) found while parsing a string`)
		case c == '\\':
			char, err := p.escape()
			if err != nil {
				return "", err
			}
			out = utf8.AppendRune(out, char)
		default:
			out = append(out, c)
		}
	}
}

// escape reads what follows a backslash.
func (p *parser) escape() (rune, error) {
	if p.atEnd() {
		return 0, p.here(eofString)
	}
	c := p.text[p.at]
	p.at++
	if at := strings.IndexByte(`"\/bfnrt`, c); at >= 0 {
		return rune("\"\\/\b\f\n\r\t"[at]), nil
	}
	if c != 'u' {
		return 0, p.here("invalid escape")
	}
	high, err := p.hex()
	if err != nil || high < 0xD800 || high > 0xDFFF {
		return high, err
	}
	if high > 0xDBFF {
		return 0, p.here("lone leading surrogate in hex escape")
	}
	for _, c := range []byte(`\u`) {
		if p.atEnd() {
			return 0, p.here(eofString)
		}
		p.at++
		if p.text[p.at-1] != c {
			return 0, p.here("unexpected end of hex escape")
		}
	}
	low, err := p.hex()
	if err != nil {
		return 0, err
	}
	if low < 0xDC00 || low > 0xDFFF {
		return 0, p.here("lone leading surrogate in hex escape")
	}
	return (high-0xD800)<<10 + (low - 0xDC00) + 0x10000, nil
}

func (p *parser) hex() (rune, error) {
	if p.at+4 > len(p.text) {
		p.at = len(p.text)
		return 0, p.here(eofString)
	}
	p.at += 4
	value, err := strconv.ParseUint(string(p.text[p.at-4:p.at]), 16, 32)
	if err != nil {
		return 0, p.here("invalid escape")
	}
	return rune(value), nil
}
