package api

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/florin-db/florin/bench/legacy/internal/reads"
)

// problem is a refusal: RFC 9457. Its detail begins with the name of what is wrong.
type problem struct {
	code   int
	detail string
	// allow are the methods of a 405.
	allow string
	// closes says that nothing behind the request can be trusted.
	closes bool
	// members are further ones, as JSON with a comma in front.
	members string
}

func (p *problem) Error() string { return p.detail }

func bad(code int, format string, values ...any) *problem {
	return &problem{code: code, detail: fmt.Sprintf(format, values...)}
}

// reasons are the titles of the statuses that this service answers.
var reasons = map[int]string{
	400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed", 409: "Conflict",
	411: "Length Required", 412: "Precondition Failed", 413: "Content Too Large", 415: "Unsupported Media Type",
	417: "Expectation Failed", 429: "Too Many Requests", 431: "Request Header Fields Too Large", 500: "Internal Server Error", 501: "Not Implemented",
	503: "Service Unavailable",
}

// codes are the HTTP statuses of the reads' own.
var codes = map[reads.Status]int{
	reads.NotFound: 404, reads.InvalidRequest: 400, reads.Stale: 412, reads.Unavailable: 503, reads.Overloaded: 429,
	reads.Unauthenticated: 401, reads.PermissionDenied: 403, reads.Internal: 500,
}

func (p *problem) appendTo(out []byte) []byte {
	out = append(out, `{"type":"about:blank","title":"`...)
	out = append(out, reasons[p.code]...)
	out = append(out, `","status":`...)
	out = strconv.AppendInt(out, int64(p.code), 10)
	out = append(out, `,"detail":`...)
	out = appendString(out, p.detail)
	out = append(out, p.members...)
	return append(out, '}')
}

// appendString appends a JSON string that escapes what JSON demands and nothing else; encoding/json escapes more.
func appendString(out []byte, text string) []byte {
	const short = "\b\t\n\f\r\"\\"
	const letters = `btnfr"\`
	out = append(out, '"')
	for _, char := range text {
		switch at := strings.IndexRune(short, char); {
		case at >= 0:
			out = append(out, '\\', letters[at])
		case char < ' ':
			out = fmt.Appendf(out, `\u%04x`, char)
		default:
			out = utf8.AppendRune(out, char)
		}
	}
	return append(out, '"')
}

// quote shows what came, between quotation marks, the way all of the contract's messages do: what cannot be printed as
// \u{7f}.
func quote(text string) string {
	var out strings.Builder
	out.WriteByte('"')
	for _, char := range text {
		switch {
		case char == '"' || char == '\\':
			out.WriteByte('\\')
			out.WriteRune(char)
		case char == '\n':
			out.WriteString(`\n`)
		case char == '\r':
			out.WriteString(`\r`)
		case char == '\t':
			out.WriteString(`\t`)
		case char == 0:
			out.WriteString(`\0`)
		case !unicode.IsPrint(char) || unicode.In(char, unicode.Mn, unicode.Me):
			fmt.Fprintf(&out, `\u{%x}`, char)
		default:
			out.WriteRune(char)
		}
	}
	out.WriteByte('"')
	return out.String()
}
