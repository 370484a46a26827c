package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
)

const (
	maxBody  = 16 << 10 // bytes
	maxDepth = 8        // of nested arrays and objects
)

// jsonBody reads the body of a POST or PATCH, at most maxBody bytes of application/json,
// before huma does: huma would answer a broken connection with 500. Replies are JSON,
// whatever Accept says (RFC 9110, 12.5.1, allows that); huma would name it as asked.
func jsonBody(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Header.Del("Accept")
		if r.Method != http.MethodPost && r.Method != http.MethodPatch {
			next.ServeHTTP(w, r)
			return
		}
		body, p := readBody(r)
		if p != nil {
			writeProblem(w, r, p)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		next.ServeHTTP(w, r)
	})
}

func readBody(r *http.Request) ([]byte, *problem) {
	if r.ContentLength > maxBody {
		return nil, bodyTooLarge.problem("")
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	switch {
	case err != nil:
		return nil, badRequest.problem("the body could not be read to its end")
	case len(body) > maxBody:
		return nil, bodyTooLarge.problem("")
	case len(body) > 0 && !isJSON(r.Header):
		return nil, wrongMediaType.problem("")
	}
	return body, nil
}

// isJSON reports whether header announces plain application/json.
func isJSON(header http.Header) bool {
	types := header.Values("Content-Type")
	if len(types) != 1 || header.Get("Content-Encoding") != "" {
		return false
	}
	mediaType, parameters, err := mime.ParseMediaType(types[0])
	charset, named := parameters["charset"]
	return err == nil && mediaType == "application/json" && (!named || strings.EqualFold(charset, "utf-8"))
}

// jsonFormat is how huma reads and writes JSON.
func jsonFormat() huma.Format {
	return huma.Format{Marshal: writeJSON, Unmarshal: decodeJSON}
}

// writeJSON ignores errors of w: there is nobody left to tell.
func writeJSON(w io.Writer, v any) error {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return err
	}
	_, _ = w.Write(text.Bytes())
	return nil
}

var (
	errUTF8      = errors.New("the text is not valid UTF-8")
	errSurrogate = errors.New("an escape names half of a surrogate pair")
	errDepth     = errors.New("the nesting is too deep")
)

// decodeJSON reads one JSON text (RFC 8259) as RFC 7493 (I-JSON) wants it: no name twice
// in an object, nothing but Unicode. encoding/json alone would take the last of two
// equal names and replace what is not Unicode. Unknown names, and names in another
// case, are refused by the schema afterwards.
func decodeJSON(text []byte, v any) error {
	if !utf8.Valid(text) {
		return errUTF8
	}
	var whole json.RawMessage // refuses bad syntax and what follows the value
	if err := json.Unmarshal(text, &whole); err != nil {
		return err
	}
	if halfSurrogate(text) {
		return errSurrogate
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	if err := uniqueNames(decoder, 0); err != nil {
		return err
	}
	return plainTypeError(json.Unmarshal(text, v))
}

// uniqueNames reads one value of valid JSON.
func uniqueNames(decoder *json.Decoder, depth int) error {
	if depth > maxDepth {
		return errDepth
	}
	token, err := decoder.Token()
	if err != nil {
		return err
	}
	open, nested := token.(json.Delim)
	if !nested {
		return nil
	}
	seen := map[string]bool{}
	for decoder.More() {
		if open == '{' {
			token, err := decoder.Token()
			if err != nil {
				return err
			}
			name, _ := token.(string)
			if seen[name] {
				return fmt.Errorf("the name %q appears twice in an object", shown(name))
			}
			seen[name] = true
		}
		if err := uniqueNames(decoder, depth+1); err != nil {
			return err
		}
	}
	_, err = decoder.Token() // the closing bracket
	return err
}

// halfSurrogate reports whether valid JSON has an escape of a surrogate without its other
// half, which encoding/json would silently replace.
func halfSurrogate(text []byte) bool {
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' {
			continue
		}
		i++ // the escaped character
		first, ok := escapedUnit(text[i-1:])
		if !ok || !utf16.IsSurrogate(first) {
			continue
		}
		second, _ := escapedUnit(text[i+5:])
		if utf16.DecodeRune(first, second) == utf8.RuneError {
			return true
		}
		i += 10 // the rest of the first and the whole second escape
	}
	return false
}

// escapedUnit reads an escape such as \u00e9 at the start of text.
func escapedUnit(text []byte) (rune, bool) {
	if len(text) < 6 || text[0] != '\\' || text[1] != 'u' {
		return 0, false
	}
	unit, err := strconv.ParseUint(string(text[2:6]), 16, 16)
	return rune(unit), err == nil
}

// plainTypeError rewords the one error of encoding/json that speaks of Go.
func plainTypeError(err error) error {
	if wrong := (*json.UnmarshalTypeError)(nil); errors.As(err, &wrong) {
		return fmt.Errorf("%s does not fit its place", shown(wrong.Value))
	}
	return err
}
