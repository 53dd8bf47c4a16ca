package api

import (
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/florin-db/florin/bench/legacy/internal/domain"
	"github.com/florin-db/florin/bench/legacy/internal/reads"
)

// resource is what a path names.
type resource uint8

const (
	balanceOf resource = iota
	statisticsOf
	batch
)

// Names of the routes in metrics.
var resourceNames = [...]string{"balance", "statistics", "batchGet"}

const (
	balanceParameters    = "min_version, max_age_ms or wait_ms"
	statisticsParameters = "window, min_version, max_age_ms or wait_ms"
)

// Head is a request's line and headers.
type Head interface {
	Method() string
	// Target is the request's, as it came.
	Target() string
	// Header returns a header's value, and whether it is there.
	Header(name string) (string, bool)
}

// route is a request without its body.
type route struct {
	resource  resource
	userID    uint64
	windows   domain.Windows
	freshness reads.Freshness
}

// find reads what is asked. The order of its checks is the contract's: it decides which of several mistakes is named.
func find(head Head) (route, *problem) {
	path, query := splitTarget(head.Target())
	route, problem := parsePath(path)
	if problem != nil {
		return route, problem
	}
	if problem := checkMethod(route.resource, head.Method()); problem != nil {
		return route, problem
	}
	if problem := checkHeaders(head); problem != nil {
		return route, problem
	}
	return route, route.parseQuery(query)
}

func checkMethod(resource resource, method string) *problem {
	allow := "GET, HEAD"
	if resource == batch {
		allow = "POST"
	}
	switch {
	case method == "POST" && resource == batch, (method == "GET" || method == "HEAD") && resource != batch:
		return nil
	default:
		problem := bad(405, "method: expected %s, got %s", allow, quote(method))
		problem.allow = allow
		return problem
	}
}

func checkHeaders(head Head) *problem {
	if value, ok := head.Header("Expect"); ok && !strings.EqualFold(strings.TrimSpace(value), "100-continue") {
		return bad(417, "expect: expected 100-continue, got %s", quote(value))
	}
	if head.Method() != "POST" {
		return nil
	}
	if _, ok := head.Header("Content-Length"); !ok {
		problem := bad(411, "content-length: expected one with POST")
		problem.closes = true
		return problem
	}
	if value, ok := head.Header("Content-Type"); ok {
		media, parameters, _ := strings.Cut(value, ";")
		if !strings.EqualFold(strings.TrimSpace(media), "application/json") {
			return bad(415, "content-type: expected application/json, got %s", quote(value))
		}
		for parameter := range strings.SplitSeq(parameters, ";") {
			name, charset, _ := strings.Cut(strings.TrimSpace(parameter), "=")
			if strings.EqualFold(name, "charset") && !strings.EqualFold(strings.Trim(charset, `"`), "utf-8") {
				return bad(415, "content-type: expected no charset but utf-8, in which JSON travels, got %s", quote(value))
			}
		}
	}
	if value, ok := head.Header("Content-Encoding"); ok && !strings.EqualFold(strings.TrimSpace(value), "identity") {
		return bad(415, "content-encoding: expected none, got %s", quote(value))
	}
	return nil
}

// splitTarget returns path and query of a target in origin form or in absolute form.
func splitTarget(target string) (path, query string) {
	for _, scheme := range []string{"http://", "https://"} {
		if len(target) >= len(scheme) && strings.EqualFold(target[:len(scheme)], scheme) {
			rest := target[len(scheme):]
			target = ""
			if end := strings.IndexAny(rest, "/?"); end >= 0 {
				target = rest[end:]
			}
			break
		}
	}
	path, query, _ = strings.Cut(target, "?")
	return path, query
}

func parsePath(path string) (route, *problem) {
	unknown := func() *problem {
		return bad(404, "path: expected /v1/users/{user_id}/balance, /v1/users/{user_id}/statistics or "+
			"/v1/balances:batchGet, got %s", quote(path))
	}
	rest, ok := strings.CutPrefix(path, "/")
	if !ok {
		return route{}, unknown()
	}
	// Split first, decode then: an encoded slash belongs to its segment.
	var segments [5]string
	count := 0
	for more := true; more && count < len(segments); count++ {
		var segment string
		segment, rest, more = strings.Cut(rest, "/")
		decoded, ok := decode(segment)
		if !ok {
			return route{}, bad(400, "path: expected percent-encoded UTF-8")
		}
		if segments[count] = decoded; count == 0 && decoded != "v1" {
			return route{}, unknown()
		}
	}
	found := route{windows: domain.AllWindows}
	switch {
	case count == 2 && segments[1] == "balances:batchGet":
		found.resource = batch
		return found, nil
	case count == 4 && segments[1] == "users" && segments[3] == "balance":
		found.resource = balanceOf
	case count == 4 && segments[1] == "users" && segments[3] == "statistics":
		found.resource = statisticsOf
	default:
		return route{}, unknown()
	}
	if found.userID, ok = parseUserID(segments[2]); !ok {
		return route{}, bad(400, "user_id: expected 0 to 9223372036854775807, got %s", quote(segments[2])+misspelling(segments[2]))
	}
	return found, nil
}

func (r *route) parseQuery(query string) *problem {
	if query == "" {
		return nil
	}
	var seen [4]bool
	once := func(index int, name string) *problem {
		if seen[index] {
			return bad(400, "%s: expected once", name)
		}
		seen[index] = true
		return nil
	}
	for more := true; more; {
		var pair string
		pair, query, more = strings.Cut(query, "&")
		name, value, _ := strings.Cut(pair, "=")
		name, nameOK := decode(name)
		value, valueOK := decode(value)
		if !nameOK || !valueOK {
			return bad(400, "query: expected percent-encoded UTF-8")
		}
		var problem *problem
		index := 0
		switch {
		case name == "min_version":
			r.freshness.MinVersion, problem = parseNumber(name, value, math.MaxUint64)
		case name == "max_age_ms":
			index = 1
			r.freshness.MaxAgeMS, problem = parseMilliseconds(name, value)
		case name == "wait_ms":
			index = 2
			r.freshness.WaitMS, problem = parseMilliseconds(name, value)
			r.freshness.WaitMS = min(r.freshness.WaitMS, reads.WaitMSMax)
		case name == "window" && r.resource == statisticsOf:
			index = 3
			r.windows, problem = parseWindows(value)
		default:
			known := balanceParameters
			if r.resource == statisticsOf {
				known = statisticsParameters
			}
			problem = bad(400, "query: expected %s, got %s", known, quote(name))
		}
		if problem == nil {
			problem = once(index, name)
		}
		if problem != nil {
			return problem
		}
	}
	return nil
}

func parseMilliseconds(name, value string) (uint32, *problem) {
	number, problem := parseNumber(name, value, math.MaxUint32)
	return uint32(number), problem
}

func parseNumber(name, value string, max uint64) (uint64, *problem) {
	number, ok := parseDecimal(value)
	if !ok || number > max {
		return 0, bad(400, "%s: expected 0 to %d, got %s", name, max, quote(value)+misspelling(value))
	}
	return number, nil
}

func parseWindows(value string) (domain.Windows, *problem) {
	var windows domain.Windows
	rest := value
	for more := true; more; {
		var name string
		name, rest, more = strings.Cut(rest, ",")
		found := false
		for window, known := range domain.WindowNames {
			if known == name {
				windows |= 1 << window
				found = true
			}
		}
		if !found {
			return 0, bad(400, "window: expected 24h, 7d, 30d and lifetime, separated by commas, got %s", quote(value))
		}
	}
	return windows, nil
}

func parseUserID(text string) (uint64, bool) {
	id, ok := parseDecimal(text)
	return id, ok && id <= domain.UserIDMax
}

// misspelling is what a refusal of text adds where only the spelling of a number is wrong.
func misspelling(text string) string {
	isNumber := func(digits string) bool { return digits != "" && strings.Trim(digits, "0123456789") == "" }
	switch {
	case len(text) > 1 && text[0] == '0' && isNumber(text):
		return ": leading zeros are not allowed"
	case strings.HasPrefix(text, "+") && isNumber(text[1:]):
		return ": a sign is not allowed"
	}
	return ""
}

// parseDecimal reads digits alone: no sign, no space, no leading zeros.
func parseDecimal(text string) (uint64, bool) {
	if len(text) > 1 && text[0] == '0' {
		return 0, false
	}
	for index := range len(text) {
		if text[index] < '0' || text[index] > '9' {
			return 0, false
		}
	}
	number, err := strconv.ParseUint(text, 10, 64)
	return number, err == nil
}

// decode undoes percent-encoding. Unlike in a form, a plus stays one.
func decode(text string) (string, bool) {
	if strings.IndexByte(text, '%') < 0 {
		return text, true
	}
	out := make([]byte, 0, len(text))
	for index := 0; index < len(text); index++ {
		if text[index] != '%' {
			out = append(out, text[index])
			continue
		}
		if index+2 >= len(text) {
			return "", false
		}
		value, err := strconv.ParseUint(text[index+1:index+3], 16, 8)
		if err != nil {
			return "", false
		}
		out = append(out, byte(value))
		index += 2
	}
	return string(out), utf8.Valid(out)
}
